"""`python -m tests.chaos`: a campaign of chaos. The exit code is 0 when every invariant held."""

from __future__ import annotations

import sys
import time

import click

from tests.chaos.campaign import Campaign, read_results, results_file, totals
from tests.chaos.rounds import ROUNDS


@click.command()
@click.option("--minutes", type=click.FloatRange(0.1, 24 * 60), default=10.0, show_default=True, help="After this long no round is begun.")
@click.option("--kind", type=click.Choice(list(ROUNDS)), help="Rounds of this kind alone; otherwise the seed draws it.")
def main(minutes: float, kind: str | None) -> None:
    """Kill, cut and confuse Carrel's real processes, round after round, and judge what is left. Goes on after the last seed of the results file."""
    until_s = time.monotonic() + minutes * 60
    results = results_file()
    for name, kind_of_round in ROUNDS.items():
        if why := kind_of_round.why_not():
            click.echo(f"{name} is left out: {why}")
    failed = Campaign(results, click.echo).run(until_s, kind)
    click.echo(f"\nall rounds in {results}:")
    for name, sums in totals(read_results(results)).items():
        click.echo(f"  {name:<16} " + ", ".join(f"{figure} {value:,}" for figure, value in sums.items()))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
