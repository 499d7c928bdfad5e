"""A verified copy of a device's file beside it: `carrel.sqlite3.0001_initial.20260131T065900123Z.backup`.

It is made with SQLite's backup API, looked through, and on the disk before anything else happens. What protects a run of migrations with
it is migrations/protection.py.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.clock import Clock
from domain.errors import OperatorError
from migrations.engines import first_line
from migrations.private_files import create_private, to_disk
from migrations.sqlite_copy import copy_database, reading_file, value_of
from migrations.waiting import SILENCE, Activity

# Backups of one device's file that are kept, the newest among them; each is as large as the file.
KEPT_BACKUPS = 3
# The backup, and as much again for what a rebuilt table leaves in the write-ahead log before it is checkpointed.
SPACE_FACTOR = 2
# Left free besides, so that the machine itself does not stop at a full disk.
RESERVE_BYTES = 32 * 1024 * 1024
SUFFIX, PARTIAL = ".backup", ".partial"
MB = 1_000_000


@dataclass(frozen=True)
class Backup:
    """A verified copy of a database: a SQLite file, or an archive for pg_restore."""

    path: Path
    size_bytes: int


TellBackup = Callable[[Backup], None]


def back_up_file(path: Path, connection: sqlite3.Connection, at: str | None, clock: Clock, activity: Activity = SILENCE) -> Backup:
    """Copies the database that `connection` has open, which lies at `path`, to a file beside it: verified, fsynced, its folder too.

    `at` is the newest migration applied. Of older backups the newest KEPT_BACKUPS - 1 stay. Raises OperatorError when there is no room or
    the copy does not verify.
    """
    size_bytes = value_of(connection, "page_count") * value_of(connection, "page_size")
    demand_space(path.parent, SPACE_FACTOR * size_bytes, f"migrate {path.name} with a backup beside it")
    target = path.with_name(file_name(path.name, at, clock) + SUFFIX)
    _remove_partial(path)
    with activity.during(f"backing up {path.name}") as tell, written_whole(target, path) as partial:
        try:
            with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # written_whole brings it to the disk
                copy_database(connection, copy, tell=tell, clock=clock)
        except sqlite3.Error as error:
            raise OperatorError(f"{path} cannot be backed up, so it is not migrated: {first_line(error)}.") from error
        tell("looking the copy through")
        demand_sound(partial, f"{path} is damaged, so it is not migrated; restore a backup of it")
    _prune(path, target)
    return Backup(target, target.stat().st_size)


def demand_sound(path: Path, sentence: str) -> None:
    """Raises OperatorError, beginning with `sentence`, unless quick_check finds the SQLite file at `path` in order.

    The file must not be open elsewhere: it is read as one that nobody changes, so that nothing appears beside it.
    """
    try:
        with reading_file(path) as connection:
            ((found,), *_) = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise OperatorError(f"{sentence}: {first_line(error)}.") from error
    if found != "ok":
        raise OperatorError(f"{sentence}: {str(found).splitlines()[0]}.")


def demand_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises OperatorError unless `folder` has room for so much and RESERVE_BYTES."""
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise OperatorError(f"Cannot {purpose}: {folder}: {error.strerror}.") from error
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise OperatorError(
            f"There is not room enough in {folder} to {purpose}: {(needed_bytes + RESERVE_BYTES) / MB:.0f} MB are needed,"
            f" {free_bytes / MB:.0f} MB are free."
        )


def file_name(database: str, at: str | None, clock: Clock) -> str:
    """`carrel.db.0001_initial.20260131T065900123Z`: the database, the migration it is at, the time in UTC; the time sorts."""
    now_ms = clock.now_ms()
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"{database}.{at or 'unmigrated'}.{moment:%Y%m%dT%H%M%S}{now_ms % 1000:03}Z"


@contextmanager
def written_whole(target: Path, database: Path) -> Iterator[Path]:
    """An empty private file to fill, which becomes `target`, on the disk with its name, if the block ends well, and else vanishes.

    It belongs to whom `database` belongs to. Raises OperatorError when it cannot be written.
    """
    partial = target.with_name(target.name + PARTIAL)
    try:
        os.close(create_private(partial, database))
    except OSError as error:
        raise OperatorError(f"Cannot write the backup {partial}: {error.strerror}.") from error
    try:
        yield partial
        to_disk(partial)
        partial.rename(target)
        to_disk(target.parent)
    except OSError as error:
        raise OperatorError(f"Cannot write the backup {target}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def backups_of(path: Path) -> list[Path]:
    """The backups beside the database at `path`, oldest first."""
    found = [(match[1], file) for file in path.parent.iterdir() if (match := _pattern(path, SUFFIX).fullmatch(file.name))]
    return [file for _, file in sorted(found)]


def unfinished_backups_of(path: Path) -> list[Path]:
    """What killed processes have left of backups beside the database at `path`, and one that is being made."""
    return [file for file in path.parent.iterdir() if _pattern(path, SUFFIX + PARTIAL).fullmatch(file.name)]


def _pattern(path: Path, suffix: str) -> re.Pattern[str]:
    """Names of this database's files alone: `school.db` may lie beside `school`."""
    return re.compile(rf"{re.escape(path.name)}\.[^.]+\.(\d{{8}}T\d{{9}}Z){re.escape(suffix)}(?:-journal)?")


def _prune(path: Path, newest: Path) -> None:
    # Not by rank alone: with a clock that was set back, the newest is not the last.
    older = [file for file in backups_of(path) if file != newest]
    for file in older[: max(0, len(older) - (KEPT_BACKUPS - 1))]:
        with suppress(OSError):  # what cannot be removed costs room, and no migration
            file.unlink()


def _remove_partial(path: Path) -> None:
    """What a backup that was killed left behind. Only under the migration lock."""
    for file in unfinished_backups_of(path):
        with suppress(OSError):
            file.unlink()
