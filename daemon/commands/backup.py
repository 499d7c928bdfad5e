"""`carrel backup` and `carrel restore`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon.commands.site import Settings, as_json, tell
from daemon.process.left_out import leave_out_postgres
from domain.counted import counted, in_words
from domain.errors import OperatorError

if TYPE_CHECKING:
    from daemon.backups.kept import Kept

MB = 1_000_000


@click.command(
    epilog="""\b
Examples:
  carrel backup
  carrel backup /media/usb
  carrel backup --list"""
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option(
    "--keep", type=click.IntRange(1, 1_000), help="Backups that stay in the folder; otherwise device.backup.keep, and all in a FOLDER."
)
@click.option("--if-due", is_flag=True, help="Only when the newest is older than device.backup.every_h; for a timer.")
@click.option("--list", "only_list", is_flag=True, help="Make none, and say which there are.")
@as_json
@click.pass_obj
def backup(settings: Settings, folder: Path | None, keep: int | None, if_due: bool, only_list: bool, as_json: bool) -> None:
    """Back the database up while the daemon works, into FOLDER, or into that of the configuration, where older ones go.

    The copy is looked through whole, and its rows are counted against the database, before it counts as a backup.
    """
    config = settings.load()
    leave_out_postgres()
    from daemon.backups import kept, making
    from domain.clock import SystemClock
    from migrations.private_files import real_path
    from migrations.waiting import waiting_on_stderr

    place = folder or making.backup_folder(config)
    if only_list:
        found = kept.backups_in(place, real_path(config.database_path).name)
        tell({"folder": str(place), "backups": [_listed(one) for one in found]}, as_json, _list_lines)
        return
    with waiting_on_stderr(silent=as_json) as activity:
        if if_due:
            made = making.back_up_if_due(config, SystemClock(), activity=activity)
        else:
            made = making.back_up(config, SystemClock(), folder, keep=keep, activity=activity)
    if made is None:
        tell({"made": False}, as_json, lambda _: "No backup is due.")
        return
    answer = {"made": True, "path": str(made.path), "size_bytes": made.size_bytes, "rows": made.rows}
    tell(answer | {"removed": [str(path) for path in made.removed]}, as_json, _made_sentence)


@click.command(
    epilog="""\b
Examples:
  carrel restore --latest
  carrel restore /media/usb/carrel.sqlite3.0001_initial.20260131T065900123Z.backup"""
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--latest", is_flag=True, help="The newest in the folder of the configuration.")
@as_json
@click.pass_obj
def restore(settings: Settings, file: Path | None, latest: bool, as_json: bool) -> None:
    """Put a backup in the place of the database, at once; the daemon must not run.

    The replaced file is kept under another name. What is unsent in it comes along; the rest is fetched from school anew.
    """
    config = settings.load()
    leave_out_postgres()
    from daemon.backups import kept, making, restoring
    from domain.clock import SystemClock
    from domain.ids import IdSource
    from migrations.private_files import real_path
    from migrations.waiting import waiting_on_stderr

    if (file is None) != latest:
        raise click.UsageError("Give a file, or --latest.")
    clock = SystemClock()
    if file is None:
        found = kept.backups_in(making.backup_folder(config), real_path(config.database_path).name)
        newest = kept.newest_of(found, clock.now_ms()) or kept.newest_of(found)
        if newest is None:
            raise OperatorError(f"There is no backup in {making.backup_folder(config)}.")
        file = newest.path
    with waiting_on_stderr(silent=as_json) as activity:
        done = restoring.restore(config, file, clock, IdSource(clock.now_ms), activity)
    answer = {"backup": str(file), "database": str(done.database), "unsent": done.unsent}
    tell(answer | {"replaced": str(done.replaced) if done.replaced else None}, as_json, _restored_lines)


def _listed(kept: Kept) -> dict[str, Any]:
    return {"path": str(kept.path), "migration": kept.at, "made_at_ms": kept.made_at_ms, "size_bytes": kept.size_bytes}


def _list_lines(answer: Mapping[str, Any]) -> str:
    lines = [
        f"{datetime.fromtimestamp(one['made_at_ms'] / 1000, UTC):%Y-%m-%d %H:%M UTC}  {one['size_bytes'] / MB:8.1f} MB  {one['path']}"
        for one in answer["backups"]
    ]
    return "\n".join(lines) or f"There is no backup in {answer['folder']}."


def _made_sentence(answer: Mapping[str, Any]) -> str:
    removed = f"; {counted(len(answer['removed']), 'older one')} removed" if answer["removed"] else ""
    return f"{answer['path']}: {answer['size_bytes'] / MB:.1f} MB, {counted(sum(answer['rows'].values()), 'row')}, looked through{removed}."


def _restored_lines(answer: Mapping[str, Any]) -> str:
    waits = f"{in_words(answer['unsent'], 'change')} {'waits' if answer['unsent'] == 1 else 'wait'} to be sent"
    unsent = waits if answer["unsent"] else "nothing waits to be sent"
    lines = [f"{answer['database']} goes on from the backup: {unsent}, the rest comes from school. Start the daemon."]
    if answer["replaced"]:
        lines.append(f"The file of before is now {answer['replaced']}: delete it when nothing is missed.")
    return "\n".join(lines)
