"""A way back before a migration changes a database that holds data.

A device's file is copied beside itself with SQLite's backup API, verified and on the disk before the first statement runs. When the
run fails after some of its files were applied, the copy is put back: an older program, which a school installs again in such a case, would
refuse the half of an upgrade just as it refuses the whole. A database without rows has nothing to lose, and is left where the run stopped.

PostgreSQL is dumped on demand (migrations/dump.py), and never put back by itself: the school goes on writing meanwhile.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, OperatorError
from migrations.engines import Engine, PostgresEngine, SqliteEngine, first_line
from migrations.history import HISTORY_TABLE

log = logging.getLogger(__name__)

# Backups of one device's file that are kept, the newest among them; each is as large as the file.
KEPT_BACKUPS = 3
# The backup, and as much again for what a rebuilt table leaves in the write-ahead log before it is checkpointed.
SPACE_FACTOR = 2
# Left free besides, so that the machine itself does not stop at a full disk.
RESERVE_BYTES = 32 * 1024 * 1024
BACKUP_MODE = 0o600
SUFFIX, PARTIAL = ".backup", ".partial"
_MB = 1_000_000


@dataclass(frozen=True)
class Backup:
    """A verified copy of a database: a SQLite file, or an archive for pg_restore."""

    path: Path
    size_bytes: int


TellBackup = Callable[[Backup], None]


@contextmanager
def protected(
    engine: Engine, at: str | None, *, dump_folder: Path | None = None, tell: TellBackup | None = None, clock: Clock | None = None
) -> Iterator[None]:
    """Surrounds everything that one upgrade or downgrade runs; to be entered under `engine.locked()`, only when something is to run.

    `at` is the newest migration applied. `dump_folder` asks for a dump of a PostgreSQL database. `tell` hears of the backup as soon as it
    is complete; by default it is logged. A device's file is verified afterwards as well. Raises OperatorError before anything is changed when there is no room for a backup, or when what was backed up is
    damaged; an error that passes is raised again, with the sentence added that says what became of a device's file.
    """
    tell = tell or _log
    clock = clock or SystemClock()
    if isinstance(engine, SqliteEngine):
        with _protected_file(engine, at, tell, clock):
            yield
        return
    if isinstance(engine, PostgresEngine) and dump_folder is not None:
        from migrations.dump import dump_database

        tell(dump_database(engine, dump_folder, at, clock))
    yield


def _log(backup: Backup) -> None:
    log.info("backed up to %s, %.1f MB", backup.path, backup.size_bytes / _MB)


@contextmanager
def _protected_file(engine: SqliteEngine, at: str | None, tell: TellBackup, clock: Clock) -> Iterator[None]:
    connection: sqlite3.Connection = engine.database.connection()  # type: ignore[no-untyped-call]
    if not _holds_data(connection):
        yield
        return
    backup = back_up_file(engine.path, connection, at, clock)
    tell(backup)
    with _commits_of(engine.path, connection) as commits:
        try:
            yield
            _demand_sound_after(connection)
        except BaseException as error:
            outcome = _put_back(commits, connection, backup)
            if outcome and isinstance(error, CarrelError):
                raise type(error)(f"{error.message} {outcome}") from error
            raise


def back_up_file(path: Path, connection: sqlite3.Connection, at: str | None, clock: Clock) -> Backup:
    """Copies the database that `connection` has open, which lies at `path`, to a file beside it: verified, fsynced, its folder too.

    Of older backups the newest KEPT_BACKUPS - 1 stay. Raises OperatorError when there is no room or the copy does not verify.
    """
    size_bytes = _value(connection, "page_count") * _value(connection, "page_size")
    demand_space(path.parent, SPACE_FACTOR * size_bytes, f"migrate {path.name} with a backup beside it")
    target = path.with_name(file_name(path.name, at, clock) + SUFFIX)
    _remove_partial(path)
    with written_whole(target) as partial:
        try:
            with closing(sqlite3.connect(partial)) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # written_whole brings it to the disk
                connection.backup(copy)
        except sqlite3.Error as error:
            raise OperatorError(f"{path} cannot be backed up, so it is not migrated: {first_line(error)}.") from error
        demand_sound(partial, f"{path} is damaged, so it is not migrated; restore a backup of it")
    _prune(path, target)
    return Backup(target, target.stat().st_size)


def demand_sound(path: Path, sentence: str) -> None:
    """Raises OperatorError, beginning with `sentence`, unless quick_check finds the SQLite file at `path` in order.

    The file must not be open elsewhere: it is read as one that nobody changes, so that nothing appears beside it.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            ((found,), *_) = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        raise OperatorError(f"{sentence}: {first_line(error)}.") from error
    if found != "ok":
        raise OperatorError(f"{sentence}: {str(found).splitlines()[0]}.")


def demand_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises OperatorError unless `folder` has room for so much and RESERVE_BYTES."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise OperatorError(
            f"There is not room enough in {folder} to {purpose}: {(needed_bytes + RESERVE_BYTES) / _MB:.0f} MB are needed,"
            f" {free_bytes / _MB:.0f} MB are free."
        )


def file_name(database: str, at: str | None, clock: Clock) -> str:
    """`carrel.db.0001_initial.20260131T065900123Z`: the database, the migration it is at, the time in UTC; the time sorts."""
    now_ms = clock.now_ms()
    moment = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"{database}.{at or 'unmigrated'}.{moment:%Y%m%dT%H%M%S}{now_ms % 1000:03}Z"


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """An empty private file to fill, which becomes `target`, on the disk with its name, if the block ends well, and else vanishes."""
    partial = target.with_name(target.name + PARTIAL)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, BACKUP_MODE))
    except OSError as error:
        raise OperatorError(f"Cannot write the backup {partial}: {error.strerror}.") from error
    try:
        yield partial
        _to_disk(partial)
        partial.rename(target)
        _to_disk(target.parent)
    except OSError as error:
        raise OperatorError(f"Cannot write the backup {target}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def backups_of(path: Path) -> list[Path]:
    """The backups beside the database at `path`, oldest first."""
    beside = [file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.") and file.name.endswith(SUFFIX)]
    return sorted(beside, key=lambda file: file.name.split(".")[-2])


def _demand_sound_after(connection: sqlite3.Connection) -> None:
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found != "ok":
        raise OperatorError(f"The database is damaged after its migration: {found.splitlines()[0]}.")


class _Commits:
    """Who has committed since it was made: anybody, or others than `own`. By SQLite's data_version, which counts others' commits."""

    def __init__(self, own: sqlite3.Connection, watcher: sqlite3.Connection) -> None:
        self._own, self._watcher = own, watcher
        self._before = _value(own, "data_version"), _value(watcher, "data_version")

    def any(self) -> bool:
        return _value(self._watcher, "data_version") != self._before[1]

    def by_others(self) -> bool:
        return _value(self._own, "data_version") != self._before[0]


@contextmanager
def _commits_of(path: Path, own: sqlite3.Connection) -> Iterator[_Commits]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as watcher:
        watcher.execute("PRAGMA query_only = ON")
        yield _Commits(own, watcher)


def _put_back(commits: _Commits, connection: sqlite3.Connection, backup: Backup) -> str | None:
    """Brings the file back to the backup, in one transaction of SQLite's. Returns what became of it, None when nothing had changed."""
    if not commits.any():
        return None
    if commits.by_others():
        return f"Another program has written meanwhile, so what was applied before it stays; the backup is {backup.path}."
    try:
        with closing(sqlite3.connect(f"{backup.path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as source:
            source.backup(connection)
    except sqlite3.Error as error:
        return f"What was applied before it stays, because the backup {backup.path} could not be put back: {first_line(error)}."
    return f"The database was put back as it was before, from {backup.path}."


def _holds_data(connection: sqlite3.Connection) -> bool:
    """Whether any table has a row, the history aside."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'").fetchall()
    quoted = ['"' + name.replace('"', '""') + '"' for (name,) in names if name != HISTORY_TABLE]
    return any(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {name})").fetchone()[0] for name in quoted)


def _prune(path: Path, newest: Path) -> None:
    # Not by rank alone: with a clock that was set back, the newest is not the last.
    older = [file for file in backups_of(path) if file != newest]
    for file in older[: max(0, len(older) - (KEPT_BACKUPS - 1))]:
        file.unlink(missing_ok=True)


def _remove_partial(path: Path) -> None:
    """What a backup that was killed left behind. Only under the migration lock."""
    for file in path.parent.iterdir():
        if file.name.startswith(f"{path.name}.") and file.name.removesuffix("-journal").endswith(SUFFIX + PARTIAL):
            with suppress(FileNotFoundError):
                file.unlink()


def _value(connection: sqlite3.Connection, pragma: str) -> int:
    value: Any = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    return int(value)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
