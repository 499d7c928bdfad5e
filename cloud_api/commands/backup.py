"""`carrel-cloud backup`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from cloud_api.backups.making import KEEP_DEFAULT, Made, back_up
from cloud_api.clock_doubts import doubts
from cloud_api.commands.site import Options, database_options, json_option, keep_withdrawals, open_site, show
from domain.counted import counted
from domain.errors import OperatorError, SchemaError
from migrations.backup import MB
from migrations.waiting import waiting_on_stderr

# Backups hold names and answers.
_FOLDER_MODE = 0o700


@click.command(
    epilog="""\b
Examples:
  carrel-cloud backup /var/backups/carrel --keep 14
  carrel-cloud backup school.dump --verify"""
)
@database_options
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--keep", type=click.IntRange(1, 1_000), show_default=str(KEEP_DEFAULT), help="TARGET is a folder, and so many backups stay in it."
)
@click.option("--keep-days", type=click.IntRange(1, 36_500), help="TARGET is a folder, and backups that are older go.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("--verify", is_flag=True, help="Restore it into a scratch database and count the rows.")
@json_option
def backup(options: Options, target: Path, keep: int | None, keep_days: int | None, force: bool, verify: bool, as_json: bool) -> None:
    """Back the server up while it works, into a folder (a new file, the oldest go) or a file.

    Devices let go of what they have sent once a backup holds it for a week, so keep backups where the server's disk cannot take them with it.
    """
    if keep is not None or keep_days is not None:
        _make_folder(target)
    with open_site(options) as site, waiting_on_stderr(silent=as_json) as activity:
        # Before an upgrade the schema is not this version's yet: that is the backup that matters most.
        against = ["before the upgrade the database cannot be asked"]
        with suppress(SchemaError), site.database() as database:
            keep_withdrawals(site, database)
            with database.transaction(read_only=True) as cursor:
                against = list(doubts(cursor, site.clock.now_ms()))
        days = None if against else keep_days  # by a clock far ahead every backup but this one would be too old
        made = back_up(
            site.url, target, site.clock, keep=keep or KEEP_DEFAULT, keep_days=days, replace=force, verify=verify, activity=activity
        )
    against = against if keep_days else []
    data = {
        "path": str(made.path),
        "size_bytes": made.size_bytes,
        "schools": made.schools,
        "logs": made.logs,
        "rows": made.rows,
        "removed": [str(path) for path in made.removed],
        "clock_doubts": against,
    }
    kept = ["none was removed for its age, because this server's clock may be wrong: " + "; ".join(against)] if against else []
    show(data, as_json, [_sentence(made), *kept])


def _make_folder(target: Path) -> None:
    """The first backup finds no folder yet, and must not become a file of its name. Raises OperatorError where a file has it."""
    try:
        target.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{target} cannot be a folder of backups: {error.strerror}.") from error


def _sentence(made: Made) -> str:
    verified = f"; restored elsewhere and counted: {counted(sum(made.rows.values()), 'row')}" if made.rows is not None else ""
    removed = f"; {counted(len(made.removed), 'older one')} removed" if made.removed else ""
    return f"{made.path}: {made.size_bytes / MB:.1f} MB, {counted(made.schools, 'school')}{verified}{removed}"
