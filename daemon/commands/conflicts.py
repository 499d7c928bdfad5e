"""`carrel conflicts`: the values that lost against another."""

from __future__ import annotations

import click

from daemon.commands.queue_source import queue_source
from daemon.commands.site import Settings, as_json, tell

LIMIT_DEFAULT = 20
LIMIT_MAX = 10_000


@click.command()
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True, help="Conflicts named, newest first.")
@as_json
@click.pass_obj
def conflicts(settings: Settings, limit: int, as_json: bool) -> None:
    """Say which values were set at the same time as others and were not taken. The school can restore them."""
    from daemon.queue.sentences import conflict_lines

    with queue_source(settings) as source:
        found = source.conflicts(limit)
    tell({"items": found}, as_json, lambda answer: conflict_lines(answer["items"]))
