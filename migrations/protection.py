"""A way back around everything that one run of migrations does to a database that holds data.

A device's file is backed up first. When the run fails after some of its files were applied, the copy is put back: an older program, which a
school installs again in such a case, would refuse the half of an upgrade just as it refuses the whole. An upgrade that was killed is
gone on with under the backup that it began with (migrations/begun.py). A database without rows has nothing to lose, and is left
where the run stopped.

PostgreSQL is dumped on demand (migrations/dump.py), and never put back by itself: the school goes on writing meanwhile.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, OperatorError
from migrations.backup import MB, Backup, TellBackup, back_up_file, demand_sound
from migrations.begun import Begun, forget, new_token, recall, remember
from migrations.engines import Engine, PostgresEngine, SqliteEngine, first_line
from migrations.history import HISTORY_TABLE, Direction
from migrations.sqlite_copy import copy_database, reading_file, reading_live, value_of
from migrations.waiting import SILENCE, Activity

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 10.0


class Protection:
    """Of one database. To be used under `engine.locked()`.

    `dump_folder` asks for a dump of a PostgreSQL database. `tell` hears of a backup as soon as it is complete; by default it is logged.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dump_folder: Path | None = None,
        tell: TellBackup | None = None,
        clock: Clock | None = None,
        activity: Activity = SILENCE,
    ) -> None:
        self._engine = engine
        self._dump_folder = dump_folder
        self._tell = tell or _log
        self._clock = clock or SystemClock()
        self._activity = activity

    def settle(self) -> None:
        """Nothing is to be run, so that no upgrade is under way any more. Raises OperatorError."""
        if isinstance(self._engine, SqliteEngine):
            forget(self._engine.path)

    @contextmanager
    def around(self, applied: Sequence[str], direction: Direction) -> Iterator[None]:
        """Surrounds everything that one upgrade or downgrade runs, when something is to run. `applied`: the history before it.

        A device's file is looked through afterwards as well. Raises OperatorError before anything is changed when there is no room for a
        backup, or when what was backed up is damaged; an error that passes is raised again, with the sentence added that says what became
        of a device's file.
        """
        if isinstance(self._engine, SqliteEngine):
            with self._around_file(self._engine, applied, direction):
                yield
            return
        if isinstance(self._engine, PostgresEngine) and self._dump_folder is not None:
            from migrations.dump import dump_database

            self._tell(dump_database(self._engine, self._dump_folder, applied[-1] if applied else None, self._clock, self._activity))
        yield

    @contextmanager
    def _around_file(self, engine: SqliteEngine, applied: Sequence[str], direction: Direction) -> Iterator[None]:
        connection: sqlite3.Connection = engine.database.connection()  # type: ignore[no-untyped-call]
        way_back = self._way_back(engine, connection, applied, direction)
        if way_back is None:
            forget(engine.path)
            yield
            return
        with _commits_of(engine.path, connection) as commits:
            try:
                yield
                self._demand_sound_after(connection)
            except BaseException as error:
                with self._activity.during("putting the database back"):
                    outcome = way_back.go(commits, connection, self._clock)
                if outcome and isinstance(error, CarrelError):
                    raise type(error)(f"{error.message} {outcome}") from error
                raise
        forget(engine.path)

    def _way_back(
        self, engine: SqliteEngine, connection: sqlite3.Connection, applied: Sequence[str], direction: Direction
    ) -> _WayBack | None:
        """Where a device's file goes if the run fails: to a backup made now, or to that of the upgrade which this one goes on with. None
        when there is nothing to lose.
        """
        if direction == "up" and (begun := _interrupted(engine.path, connection, applied)):
            log.info("an upgrade that was broken off goes on; its way back is %s", begun.backup)
            engine.token = begun.token
            return _WayBack(engine.path, engine.path.with_name(begun.backup), resumed=True)
        if not _holds_data(connection):
            return None
        at = applied[-1] if applied else None
        backup = back_up_file(engine.path, connection, at, self._clock, self._activity)
        self._tell(backup)
        if direction == "up":
            engine.token = new_token()
            remember(engine.path, Begun(backup.path.name, at, engine.token))
        else:  # a person goes back, and each step has a backup of its own
            forget(engine.path)
        return _WayBack(engine.path, backup.path, resumed=False)

    def _demand_sound_after(self, connection: sqlite3.Connection) -> None:
        with self._activity.during("looking the database through"):
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if found != "ok":
            raise OperatorError(f"The database is damaged after its migration: {found.splitlines()[0]}.")


class _Commits:
    """Who has committed since it was made: anybody, or others than `own`. By SQLite's data_version, which counts others' commits."""

    def __init__(self, own: sqlite3.Connection, watcher: sqlite3.Connection) -> None:
        self._own, self._watcher = own, watcher
        self._before = value_of(own, "data_version"), value_of(watcher, "data_version")

    def any(self) -> bool:
        return value_of(self._watcher, "data_version") != self._before[1]

    def by_others(self) -> bool:
        return value_of(self._own, "data_version") != self._before[0]


@contextmanager
def _commits_of(path: Path, own: sqlite3.Connection) -> Iterator[_Commits]:
    with reading_live(path, BUSY_TIMEOUT_S) as watcher:
        yield _Commits(own, watcher)


class _WayBack(NamedTuple):
    """From the file at `database` to `backup`. `resumed`: the backup is older than this run."""

    database: Path
    backup: Path
    resumed: bool

    def go(self, commits: _Commits, connection: sqlite3.Connection, clock: Clock) -> str | None:
        """Brings the file back, in one transaction of SQLite's. Returns what became of it, None when nothing had changed.

        If that fails the note of the upgrade stays, so that the next run begins with it.
        """
        if not self.resumed and not commits.any():
            forget(self.database)
            return None
        if commits.by_others():
            forget(self.database)
            return f"Another program has written meanwhile, so what was applied before it stays; the backup is {self.backup}."
        try:
            with reading_file(self.backup) as source:
                copy_database(source, connection, clock=clock)
        except sqlite3.Error as error:
            return f"What was applied before it stays, because the backup {self.backup} could not be put back: {first_line(error)}."
        forget(self.database)
        return f"The database was put back as it was before, from {self.backup}."


def _interrupted(path: Path, connection: sqlite3.Connection, applied: Sequence[str]) -> Begun | None:
    """The upgrade that was broken off after something of it was committed, which the number in the database proves, if its backup is still
    good. Raises nothing for a note that is none: without it the file goes back to where it is now.
    """
    begun = recall(path)
    if begun is None or begun.token != value_of(connection, "user_version"):
        return None
    if begun.at is not None and begun.at not in applied:
        return None
    try:
        demand_sound(path.with_name(begun.backup), f"{begun.backup} is not used")
    except OperatorError as error:
        log.warning("%s", error.message)
        return None
    return begun


def _holds_data(connection: sqlite3.Connection) -> bool:
    """Whether any table has a row, the history aside."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'").fetchall()
    quoted = ['"' + name.replace('"', '""') + '"' for (name,) in names if name != HISTORY_TABLE]
    return any(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {name})").fetchone()[0] for name in quoted)


def _log(backup: Backup) -> None:
    log.info("backed up to %s, %.1f MB", backup.path, backup.size_bytes / MB)
