"""The SQL that an upgrade or downgrade would run, in order, as a script for `sqlite3` or `psql`; the database is only read.

SQLite      the file is copied into memory with the backup API and migrated there; what SQLite executed is the script, exactly.
PostgreSQL  every session is read-only. Declared statements are recorded instead of executed; the Python of a file (`migrator.run`, and
            peewee-migrate's own operations) may read, sees the database as it is now, and what it writes is recorded.

The statements are those of the real run, transactions and history rows included, so that the script leaves what the tool would leave.
What a script cannot know stands in it as a comment.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, OperatorError, SchemaError
from migrations.engines import (
    SQLITE_PRAGMAS,
    DeclaringPostgres,
    DeclaringSqlite,
    Engine,
    Limits,
    PostgresEngine,
    SqliteEngine,
    first_line,
    open_engine,
)
from migrations.files import Kind, files_in, shipped_files
from migrations.history import HISTORY_TABLE
from migrations.runner import Direction, Migrations, Progress, SafeRouter, app_version

BUSY_TIMEOUT_S = 5.0
# Statements that only tell; a script needs none of them. PRAGMA with a value sets, and foreign_key_check is what the tool decides by.
_READS = re.compile(r"\s*(SELECT\b|PRAGMA\s+(?!foreign_key_check\b)\w+\s*(\(.*\))?\s*\Z)", re.IGNORECASE | re.DOTALL)
_SAVEPOINT = re.compile(r'(SAVEPOINT|RELEASE SAVEPOINT) "s[0-9a-f]{32}";\Z')
_POSTGRES_READS = re.compile(r"\s*(SELECT|SHOW|WITH|VALUES|TABLE)\b", re.IGNORECASE)

_COMMON_HEADER = (
    "-- Nothing was changed to write this. It takes no lock: no other process may migrate meanwhile.",
    "-- Not known here: how long it takes (duration_ms tells of the preview) and when it runs (applied_at_ms is the time of writing).",
)
_SQLITE_HEADER = (
    "-- For `sqlite3 FILE`. Statements that a file's Python makes from rows are those for the rows as they are now.",
    "-- The tool takes a migration back when foreign_key_check finds a row; this script only shows it.",
    ".bail on",
)
_POSTGRES_HEADER = (
    "-- For `psql`. The tool tries again when a table is locked; this script stops there, and that migration is undone.",
    "-- Statements that a file's Python makes from rows are those for the rows as they are now, before any statement below has run.",
    r"\set ON_ERROR_STOP on",
)


def sql_of(
    kind: Kind, url: str, *, direction: Direction, target: str, folder: Traversable | None = None, clock: Clock | None = None
) -> Iterator[str]:
    """The script, one statement or comment at a time, each to be written as a line or lines of its own.

    `target` as in `Migrations.upgrade` and `.downgrade`; an empty script says so. Everything is worked out before the first line is
    given, so that no half script is ever printed. Raises as `upgrade` and `downgrade` do, and SchemaError when Python in a file reads
    what only an earlier pending file makes, on PostgreSQL.
    """
    files = shipped_files(kind) if folder is None else files_in(folder)
    script = _Script()
    engine = _recording_engine(kind, url, script)
    try:
        migrations = _PreviewMigrations(engine, files, Limits(attempts=1), clock or SystemClock())
        script.applied = [entry.name for entry in migrations.history() if entry.row]
        before = migrations.current()
        if direction == "up":
            migrations.upgrade(target, script.begin)
        else:
            migrations.downgrade(target, script.begin)
    finally:
        engine.close()
    yield from _header(kind, before, script.names, direction)
    yield from script.lines


def _header(kind: Kind, before: str | None, names: list[str], direction: Direction) -> Iterator[str]:
    if not names:
        yield f"-- Carrel {app_version()}: nothing to do, the {kind} database is at {before or 'nothing'}."
        return
    verb = "apply" if direction == "up" else "take back"
    yield f"-- Carrel {app_version()}: {verb} {', '.join(names)} on the {kind} database that is at {before or 'nothing'}."
    yield from _COMMON_HEADER
    yield from _SQLITE_HEADER if kind == "device" else _POSTGRES_HEADER


class _Script:
    """Collects the statements while `active`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: list[str] = []
        self.applied: list[str] = []  # what the history would hold by now
        self.active = False

    def begin(self, progress: Progress) -> None:
        """Called by the runner before and after each file."""
        self.active = progress.done is None
        if progress.done is None:
            self.names.append(progress.name)
            self.lines.append(f"\n-- {progress.name}")
        elif progress.done.direction == "up":
            self.applied.append(progress.name)
        else:
            self.applied.remove(progress.name)

    def comment(self, text: str) -> None:
        self.lines.append(f"-- {text}")

    def add(self, statement: str) -> None:
        if not self.active:
            return
        line = statement.strip().rstrip(";") + ";"
        # The runner makes sure of its table in every file; and the savepoint inside each transaction is peewee-migrate's own.
        if (line.startswith("CREATE") and HISTORY_TABLE in line and line in self.lines) or _SAVEPOINT.match(line):
            return
        self.lines.append(line)


class _RecordingSqlite(DeclaringSqlite):
    """SQLite in memory that writes down what it executes."""

    script: _Script
    _statement: str | None = None

    def trace(self, statement: str) -> None:
        """SQLite's trace. A trigger that fires shows the statement that fired it again: within one call only the first counts."""
        if self._statement == "":
            self._statement = statement
        elif self._statement is not None:
            return
        if not _READS.match(statement):
            self.script.add(statement)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        self._statement = ""
        try:
            return super().execute_sql(sql, params)
        finally:
            self._statement = None


class _SqliteCopy(SqliteEngine):
    """The engine over a copy in memory."""

    def __init__(self, path: Path, script: _Script, limits: Limits) -> None:
        super().__init__(path, limits)
        self._recording = _RecordingSqlite(":memory:", pragmas=SQLITE_PRAGMAS, autoconnect=False)
        self._recording.script = script
        self.database = self._recording
        self._script = script

    def connect(self) -> None:
        if not self.database.is_closed():
            return
        super().connect()
        connection: sqlite3.Connection = self._recording.connection()  # type: ignore[no-untyped-call]
        if self.path.is_file():
            _copy(self.path, connection)
        connection.set_trace_callback(self._recording.trace)

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.connect()
        if not self.path.is_file():
            self._script.lines.append("PRAGMA journal_mode = wal;")
        yield


def _copy(path: Path, into: sqlite3.Connection) -> None:
    try:
        # Not mode=ro, which cannot open a WAL database whose -shm file is gone.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as source:
            source.execute("PRAGMA query_only = ON")
            source.backup(into)
    except sqlite3.Error as error:
        raise OperatorError(f"Cannot read {path}: {first_line(error)}.") from error


class _NoRows:
    """What a statement that was only recorded gives. RETURNING gives a row: peewee asks for the id of a history row, and drops it."""

    description = None
    rowcount = 0

    def fetchone(self) -> tuple[int]:
        return (0,)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


class _RecordingPostgres(DeclaringPostgres):
    """PostgreSQL that reads, and writes down the rest. `declared` is true while a statement of `migrator.sql` runs: never executed."""

    script: _Script
    declared = False

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        if self.declaring or not self.script.active:
            return super().execute_sql(sql, params)
        setting = sql.startswith("SELECT set_config")
        if _POSTGRES_READS.match(sql) and not self.declared and not setting:
            return super().execute_sql(sql, params)
        self.script.add(self._with_values(sql, params))
        return _NoRows()

    def _with_values(self, sql: str, params: Any) -> str:
        # Without parameters psycopg2 leaves percent signs alone, but peewee always gives some, if empty.
        with closing(self.connection().cursor()) as cursor:  # type: ignore[no-untyped-call]
            text = cursor.mogrify(sql, params or ())
        return text.decode() if isinstance(text, bytes) else str(text)


class _PostgresReader(PostgresEngine):
    """The engine over a read-only session."""

    def __init__(self, url: str, script: _Script, limits: Limits) -> None:
        super().__init__(url, limits)
        recording = _RecordingPostgres(self.database.database, autoconnect=False, **self.database.connect_params)
        recording.script = script
        self.database = recording
        self._script = script

    def connect(self) -> None:
        if not self.database.is_closed():
            return
        super().connect()
        self._set("default_transaction_read_only", "on")

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.connect()
        yield

    @contextmanager
    def atomic(self) -> Iterator[None]:
        self._set_lock_timeout(self._limits.table_lock_s)
        self._script.add("BEGIN")
        yield
        self._script.add("COMMIT")


def _recording_engine(kind: Kind, url: str, script: _Script) -> Engine:
    limits = Limits(attempts=1)
    engine = open_engine(kind, url, limits)  # which refuses an address that does not fit
    if isinstance(engine, SqliteEngine):
        return _SqliteCopy(engine.path, script, limits)
    return _PostgresReader(url, script, limits)


class _PreviewRouter(SafeRouter):
    """The router, telling declared statements from Python."""

    @property
    def done(self) -> list[str]:
        """The files to replay: PostgreSQL's history does not hold those of this script."""
        database: Any = self.database
        return list(database.script.applied)

    def _declare(self, name: str, body: Callable[..., None], migrator: Any, *, fake: bool) -> None:
        super()._declare(name, body, migrator, fake=fake)
        if not fake:
            migrator.__ops__ = [self._marked(name, operation) for operation in migrator.__ops__]

    def _marked(self, name: str, operation: Any) -> Callable[[], None]:
        declared = getattr(getattr(operation, "fn", None), "__name__", "") == "sql"
        run: Callable[[], Any] = operation.run if hasattr(operation, "run") else operation
        database: Any = self.database
        python = getattr(operation, "__name__", "") == "<lambda>"  # which is what migrator.run makes of a function

        def step() -> None:
            if python:
                database.script.comment("Python of this file runs here; these are its statements:")
            database.declared = declared
            try:
                run()
            except CarrelError:
                raise
            except Exception as error:
                if declared or isinstance(database, _RecordingSqlite):
                    raise
                raise SchemaError(
                    f"{name} reads what an earlier pending statement makes, so its SQL cannot be told from here"
                    f" ({first_line(error)}): apply the migrations before it first"
                ) from error
            finally:
                database.declared = False

        return step


class _PreviewMigrations(Migrations):
    """The migrations of one database, run by the router above."""

    def _router(self) -> SafeRouter:
        return _PreviewRouter(self._engine, self._files, self._clock)
