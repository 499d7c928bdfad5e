"""`carrel verify`: whether this device really has what the school has."""

from __future__ import annotations

import sys

import click

from daemon import sentences
from daemon.commands.site import EXIT_DIFFERS, EXIT_NOT_RUNNING, EXIT_WAITING, NOT_RUNNING, Settings, as_json, find_daemon, tell

_EXIT_CODES = {"mismatch": EXIT_DIFFERS, "inconclusive": EXIT_WAITING}


@click.command()
@click.option("--content", is_flag=True, help="Compare what stands in the rows as well as their versions.")
@as_json
@click.pass_obj
def verify(settings: Settings, content: bool, as_json: bool) -> None:
    """Compare this device with its school, fetch again what differs, and say how it went.

    The daemon does so by itself once a day. Both versions of what differed are kept in verify-report.json beside the database.
    """
    control = find_daemon(settings)
    if control is None:
        click.echo(f"carrel: {NOT_RUNNING}", err=True)
        sys.exit(EXIT_NOT_RUNNING)
    answer = control.post("/v1/sync/verify", {"content": content})
    tell(answer, as_json, sentences.verify_sentence)
    sys.exit(_EXIT_CODES.get(str(answer["result"]), 0))
