"""`carrel verify`: whether this device really has what the school has."""

from __future__ import annotations

import sys

import click

from daemon import sentences
from daemon.commands.site import EXIT_DIFFERS, EXIT_WAITING, Settings, as_json, demand_daemon, tell

_EXIT_CODES = {"mismatch": EXIT_DIFFERS, "inconclusive": EXIT_WAITING}


@click.command()
@click.option("--content", is_flag=True, help="Compare what stands in the rows as well as their versions.")
@as_json
@click.pass_obj
def verify(settings: Settings, content: bool, as_json: bool) -> None:
    """Compare this device with its school, fetch again what differs, and say how it went.

    The daemon does so by itself once a day. Both versions of what differed are kept in verify-report.json beside the database.
    """
    answer = demand_daemon(settings).post("/v1/sync/verify", {"content": content})
    tell(answer, as_json, sentences.verify_sentence)
    sys.exit(_EXIT_CODES.get(str(answer["result"]), 0))
