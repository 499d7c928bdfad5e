"""`carrel-cloud restore`."""

from __future__ import annotations

from pathlib import Path

import click

from cloud_api.backups import withdrawals
from cloud_api.commands.site import Options, database_options, json_option, keep_withdrawals, open_site, show
from cloud_api.config import erasures_path, withdrawals_path
from cloud_api.erasure import register
from domain.counted import counted
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
    from cloud_api.backups.restoring import restore  # here, because it is seldom needed
    from cloud_api.backups.since_backup import Registers

    with open_site(options) as site, waiting_on_stderr(silent=as_json) as activity:
        if not any(path.exists() for path in (erasures_path(site.config), withdrawals_path(site.config))):
            where = erasures_path(site.config).parent
            click.echo(
                f"warning: no register lies in {where}: who was erased or revoked since is known only as far as the backup's folder and the database of before tell.",
                err=True,
            )
        registers = Registers(
            register.read(erasures_path(site.config)), withdrawals.read(withdrawals_path(site.config)), site.config.retention.answers_days
        )
        done = restore(site.url, archive, site.clock, site.ids, activity, registers=registers, superuser_url=site.superuser_url)
        with site.database() as database:
            keep_withdrawals(site, database)
    lines = [f"{done.database} is what it was in the backup, with {counted(done.schools, 'school')}; devices send what is missing."]
    if done.replaced:
        lines.append(f"The database of before is now {done.replaced}: drop it when nothing is missed.")
    if done.withdrawn.devices:
        lines.append(f"Revoked again, as they were since the backup: {counted(done.withdrawn.devices, 'device')}.")
    if done.withdrawn.usernames:
        names = ", ".join(done.withdrawn.usernames)
        lines.append(f"Passwords that were replaced since are forgotten; set others with `carrel-cloud user set-password`: {names}.")
    if done.rights_to_give:
        lines.append(f"Erasing leaves bytes in the write-ahead log until a superuser of PostgreSQL has run, in {done.database}:")
        lines += [f"  {statement}" for statement in done.rights_to_give]
    show(done, as_json, lines)
