"""`python -m benchmarks`: measures every budget and prints a report. The exit code is 0 when all could be measured, met or not."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import click

from benchmarks import analytics, growth, idle_cpu, idle_round, local_write, memory, migrations, next_question, pull, push, report, wire
from benchmarks.report import Result
from benchmarks.stage import Effort, Stage, open_stage
from domain.errors import CarrelError

_DEFAULT = Effort()
BUDGETS: dict[str, Callable[[Stage], Result]] = {
    "local_write": local_write.measure,
    "push": push.measure,
    "pull": pull.measure,
    "wire": wire.measure,
    "idle_round": idle_round.measure,
    "memory": memory.measure,
    "growth": growth.measure,
    "idle_cpu": idle_cpu.measure,
    "analytics": analytics.measure,
    "migrations": migrations.measure,
    "next_question": next_question.measure,
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--only", type=click.Choice(list(BUDGETS)), multiple=True, help="Measure this budget; may be given several times.")
@click.option("--rows", type=click.IntRange(1_000, 2_000_000), default=_DEFAULT.rows, show_default=True, help="Attempts pushed and pulled.")
@click.option(
    "--runs", type=click.IntRange(1, 50), default=_DEFAULT.runs, show_default=True, help="Repetitions, of which the median counts."
)
@click.option(
    "--rest-s", type=click.FloatRange(0.5, 600), default=_DEFAULT.rest_s, show_default=True, help="Seconds of watching a daemon at rest."
)
def main(as_json: bool, only: Sequence[str], rows: int, runs: int, rest_s: float) -> None:
    """Measure the budgets of docs/benchmarks.md on this machine, in a temporary folder."""
    effort = Effort(rows, runs, rest_s)
    with open_stage(effort) as stage:
        results = [_measure(name, stage, as_json) for name in BUDGETS if not only or name in only]
    if as_json:
        click.echo(json.dumps(report.as_json(results, {**asdict(effort), **_machine()}), ensure_ascii=False))
    sys.exit(1 if any(result.failure for result in results) else 0)


def _measure(name: str, stage: Stage, as_json: bool) -> Result:
    """One budget; what goes wrong with it does not keep the others from being measured."""
    started_s = time.monotonic()
    try:
        result = BUDGETS[name](stage)
    except CarrelError as error:
        result = Result(name, failure=error.message)
    click.echo(f"{name}: {time.monotonic() - started_s:.0f} s", err=True)
    if not as_json:
        click.echo(report.as_text(result))
    return result


def _machine() -> dict[str, str | int | None]:
    return {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}", "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
