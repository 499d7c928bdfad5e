"""`carrel-cloud backup`."""

from __future__ import annotations

from pathlib import Path

import click

from cloud_api.backup import KEEP_DEFAULT, Made, back_up
from cloud_api.commands.site import Options, database_options, json_option, open_site, show
from migrations.backup import MB
from migrations.waiting import waiting_on_stderr


@click.command(
    epilog="""\b
Examples:
  carrel-cloud backup /var/backups/carrel --keep 14
  carrel-cloud backup school.dump --verify"""
)
@database_options
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(1, 1_000), default=KEEP_DEFAULT, show_default=True, help="Backups that stay in a folder.")
@click.option("--keep-days", type=click.IntRange(1, 36_500), help="Backups that are older go, too.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("--verify", is_flag=True, help="Restore it into a scratch database and count the rows.")
@json_option
def backup(options: Options, target: Path, keep: int, keep_days: int | None, force: bool, verify: bool, as_json: bool) -> None:
    """Back the server up while it works, into a folder (a new file, the oldest go) or a file.

    Devices let go of what they have sent once a backup holds it for a week, so keep backups where the server's disk cannot take them with it.
    """
    with open_site(options) as site, waiting_on_stderr(silent=as_json) as activity:
        made = back_up(site.url, target, site.clock, keep=keep, keep_days=keep_days, replace=force, verify=verify, activity=activity)
    data = {
        "path": str(made.path),
        "size_bytes": made.size_bytes,
        "schools": made.schools,
        "logs": made.logs,
        "rows": made.rows,
        "removed": [str(path) for path in made.removed],
    }
    show(data, as_json, [_sentence(made)])


def _sentence(made: Made) -> str:
    verified = f"; restored elsewhere, {sum(made.rows.values())} rows are there" if made.rows is not None else ""
    removed = f"; {len(made.removed)} older ones removed" if made.removed else ""
    return f"{made.path}: {made.size_bytes / MB:.1f} MB, {made.schools} schools{verified}{removed}"
