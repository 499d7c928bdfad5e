"""`carrel-cloud restore`."""

from __future__ import annotations

from pathlib import Path

import click

from cloud_api.commands.site import Options, database_options, json_option, open_site, show
from cloud_api.config import erasures_path
from cloud_api.erasure import register
from migrations.waiting import waiting_on_stderr


@click.command(
    name="restore",
    epilog="""\b
Example: carrel-cloud restore /var/backups/carrel/carrel.0001_initial.20260131T030000000Z.backup.dump""",
)
@database_options
@click.argument("archive", type=click.Path(path_type=Path))
@json_option
def restore_backup(options: Options, archive: Path, as_json: bool) -> None:
    """Put a backup in the place of the server's database, in one step; the server may go on running.

    The replaced database is kept under another name. Devices send again by themselves what the backup does not hold.
    """
    from cloud_api.restore import restore  # here, because it is seldom needed

    with open_site(options) as site, waiting_on_stderr(silent=as_json) as activity:
        erased = register.read(erasures_path(site.config))
        done = restore(site.url, archive, site.clock, site.ids, activity, erased=erased)
    lines = [f"{done.database} is what it was in the backup, with {done.schools} schools; devices send what is missing."]
    if done.replaced:
        lines.append(f"The database of before is now {done.replaced}: drop it when nothing is missed.")
    show(done, as_json, lines)
