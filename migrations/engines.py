"""The two databases as the runner needs them: opening, one process at a time, a transaction around a file, and its checks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import peewee as pw

from domain.errors import InvalidConfig, OperatorError, PostgresUnavailable, Problem, SchemaError
from migrations.files import Kind, MigrationFile
from migrations.lock import file_lock, take_advisory_lock, without_owner
from migrations.schema import postgres, sqlite
from migrations.schema.description import Schema

SQLITE_PRAGMAS = {
    "synchronous": "full",
    "foreign_keys": 1,
    "cell_size_check": 1,
    "trusted_schema": 0,
    "mmap_size": 0,
}
CONNECT_TIMEOUT_S = 10
# A dead server or network is noticed after 30 + 3 × 10 s, also in the middle of a long statement.
KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# lock_not_available and deadlock_detected: another transaction was in the way, and nothing is wrong with the migration.
BLOCKED_CODES = frozenset({"55P03", "40P01"})


@dataclass(frozen=True)
class Limits:
    """How long a migration waits, for whom, and how often. Times in seconds.

    `process_lock_s`: for another process that is migrating the same database.
    `sqlite_busy_s`: for a SQLite write lock.
    `table_lock_s`: for a PostgreSQL table lock. Short, because every query on that table queues up behind the one that waits.
    `piecewise_lock_s`: the same for files that are not atomic, whose waits let other queries pass.
    `attempts`, `retry_pause_s`: how often a file that met a lock is tried in all, and the pause in which the traffic passes.
    """

    process_lock_s: float = 120
    sqlite_busy_s: float = 10
    table_lock_s: float = 3
    piecewise_lock_s: float = 60
    attempts: int = 10
    retry_pause_s: float = 1


class DeclaringDatabase(pw.Database):
    """A database that refuses to run SQL while the body of a migration file runs.

    Bodies only declare. peewee-migrate replays applied files to rebuild its picture of the models and, so that a body which
    queries does no harm, replaces Database.execute_sql in the whole process meanwhile, for every thread. A refusal in this one
    object needs no such replacement, and holds in the real run as well as in the replay.
    """

    declaring: str | None = None

    @contextmanager
    def declaration(self, name: str) -> Iterator[None]:
        """While the body of migration `name` runs."""
        self.declaring = name
        try:
            yield
        finally:
            self.declaring = None

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        if self.declaring:
            raise SchemaError(f"{self.declaring} queries the database while it is read: use migrator.sql or migrator.run.")
        return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]  # peewee's stubs leave it out


class DeclaringSqlite(DeclaringDatabase, pw.SqliteDatabase):
    """SQLite for the runner."""


class DeclaringPostgres(DeclaringDatabase, pw.PostgresqlDatabase):
    """PostgreSQL for the runner."""


class Engine(Protocol):
    """What the runner asks of a database."""

    @property
    def database(self) -> DeclaringDatabase: ...

    def exists(self) -> bool:
        """Whether there is a database to read a history from."""

    def connect(self) -> None:
        """Open the one connection unless it is open. Raises OperatorError."""

    def close(self) -> None: ...

    def locked(self) -> Any:
        """Context: this process alone migrates, the database exists and is connected. Raises AlreadyRunning."""

    def has_table(self, name: str) -> bool: ...

    def atomic(self) -> Any:
        """Context: one transaction that has what a migration needs, and leaves nothing behind when an exception passes."""

    def piecewise(self, file: MigrationFile) -> Any:
        """Context: no transaction; what an earlier failed run of the file left half-made is cleared away first."""

    def check(self) -> None:
        """Before the end of `atomic` or `piecewise`: raises SchemaError when rows would be left without their parents."""

    def is_blocked(self, error: Exception) -> bool:
        """Whether `error` only says that another transaction was in the way."""

    def schema(self) -> Schema:
        """The schema that the connected database has, without the history."""


class SqliteEngine:
    """A SQLite file. WAL and 0600 from its first byte on.

    `for_owner`: the daemon that owns the file migrates it, so that its lock is not in the way.
    """

    def __init__(self, path: Path, limits: Limits, *, for_owner: bool = False) -> None:
        self.path = path
        self._limits = limits
        self._for_owner = for_owner
        self.database = DeclaringSqlite(str(path), pragmas=SQLITE_PRAGMAS, timeout=limits.sqlite_busy_s, autoconnect=False)

    def exists(self) -> bool:
        return self.path.is_file()

    def connect(self) -> None:
        try:
            self.database.connect(reuse_if_open=True)
        except pw.PeeweeException as error:
            raise OperatorError(f"Cannot open {self.path}: {first_line(error)}.") from error

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with nullcontext() if self._for_owner else without_owner(self.path), file_lock(self.path, self._limits.process_lock_s):
            self._create()
            self.connect()
            self._use_wal()
            yield

    def has_table(self, name: str) -> bool:
        return bool(self.database.table_exists(name))

    @contextmanager
    def atomic(self) -> Iterator[None]:
        with self._unenforced(), self.database.atomic("IMMEDIATE"):
            yield

    @contextmanager
    def piecewise(self, file: MigrationFile) -> Iterator[None]:
        with self._unenforced():
            yield

    def check(self) -> None:
        orphans = self.database.execute_sql("PRAGMA foreign_key_check").fetchall()
        if orphans:
            child, _, parent, _ = orphans[0]
            raise SchemaError(f"{len(orphans)} rows would be left without their parents, the first in {child}, which refers to {parent}")

    def is_blocked(self, error: Exception) -> bool:
        return False  # the process lock and the busy timeout have done all the waiting there is to do

    def schema(self) -> Schema:
        return sqlite.read_schema(self.database.execute_sql)

    def _create(self) -> None:
        """The empty file, readable by its owner alone. O_EXCL: opening an existing one here would drop the locks SQLite holds on it."""
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            raise OperatorError(f"Cannot create {self.path}: {error.strerror}.") from error

    def _use_wal(self) -> None:
        # Only under the lock: the first change to WAL needs the file alone, and does not wait for it.
        try:
            self.database.pragma("journal_mode", "wal")
        except pw.PeeweeException as error:
            raise OperatorError(f"Cannot use {self.path}: {first_line(error)}.") from error

    @contextmanager
    def _unenforced(self) -> Iterator[None]:
        """Without foreign keys, so that rebuilding a parent table leaves its children alone.

        SQLite ignores this pragma inside a transaction, so it surrounds the transaction.
        """
        self.database.pragma("foreign_keys", 0)
        try:
            yield
        finally:
            self.database.pragma("foreign_keys", 1)


class PostgresEngine:
    """A PostgreSQL database over one direct connection, which also holds the lock."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self.database = DeclaringPostgres(
            re.sub(r"\Apostgres://", "postgresql://", url),
            autoconnect=False,  # no statement opens a connection by the way, without the settings and the lock
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="carrel-migrate",
            **KEEPALIVE,
        )

    def exists(self) -> bool:
        return True

    def connect(self) -> None:
        if not self.database.is_closed():
            return
        try:
            self.database.connect()
        except pw.ImproperlyConfigured as error:
            raise PostgresUnavailable("psycopg2 is not installed, and PostgreSQL cannot be reached without it.") from error
        except pw.OperationalError as error:
            raise PostgresUnavailable(f"Cannot connect to PostgreSQL: {first_line(error)}.") from error
        except pw.PeeweeException as error:  # libpq quotes what it could not parse, and that may be a part of a password
            raise PostgresUnavailable("The address of the PostgreSQL database is not a valid one.") from error
        self._set("timezone", "UTC")
        self._set("statement_timeout", "0")

    def close(self) -> None:
        self.database.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        self.connect()
        try:
            take_advisory_lock(self.database.execute_sql, self._limits.process_lock_s)
            yield
        finally:
            self.close()

    def has_table(self, name: str) -> bool:
        return self.database.execute_sql("SELECT to_regclass(%s)", (name,)).fetchone()[0] is not None

    @contextmanager
    def atomic(self) -> Iterator[None]:
        self._set_lock_timeout(self._limits.table_lock_s)
        with self.database.atomic():
            yield

    @contextmanager
    def piecewise(self, file: MigrationFile) -> Iterator[None]:
        self._set_lock_timeout(self._limits.piecewise_lock_s)
        self._drop_invalid_indexes(file.source.decode())
        yield

    def check(self) -> None:
        """PostgreSQL keeps its foreign keys itself."""

    def is_blocked(self, error: Exception) -> bool:
        return getattr(getattr(error, "orig", None), "pgcode", None) in BLOCKED_CODES  # peewee keeps psycopg2's exception there

    def schema(self) -> Schema:
        return postgres.read_schema(self.database.execute_sql)

    def _set(self, name: str, value: str) -> None:
        self.database.execute_sql("SELECT set_config(%s, %s, false)", (name, value))

    def _set_lock_timeout(self, wait_s: float) -> None:
        self._set("lock_timeout", f"{round(wait_s * 1000)}ms")

    def _drop_invalid_indexes(self, source: str) -> None:
        """Those a failed CREATE INDEX CONCURRENTLY left behind, if `source` names them: IF NOT EXISTS would take them for done."""
        invalid = self.database.execute_sql(
            "SELECT c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
            " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE NOT i.indisvalid AND n.nspname = ANY (current_schemas(false))"
        ).fetchall()
        for name, quoted in invalid:
            if re.search(rf"\b{re.escape(name)}\b", source):
                self.database.execute_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted}")


def open_engine(kind: Kind, url: str, limits: Limits) -> Engine:
    """The engine for `url`: `sqlite:///relative` or `sqlite:////absolute` for a device, `postgresql://…` for the cloud.

    Raises InvalidConfig for any other address; nothing is opened yet.
    """
    if kind == "device":
        return SqliteEngine(sqlite_path(url), limits)
    if not url.startswith(("postgresql://", "postgres://")):
        problem = Problem("DATABASE_URL", "invalid", "the cloud database is PostgreSQL, an address beginning with postgresql://")
        raise InvalidConfig("The database address", [problem])
    return PostgresEngine(url, limits)


def sqlite_path(url: str) -> Path:
    """The path in a `sqlite:///` address. Raises InvalidConfig when there is none."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":"):
        problem = Problem(
            "SQLITE_DATABASE_URL", "invalid", "a device's database is a SQLite file: sqlite:////absolute or sqlite:///relative"
        )
        raise InvalidConfig("The database address", [problem])
    return Path(path)


def first_line(error: BaseException) -> str:
    """The first line of a foreign message: PostgreSQL puts values of rows, which may be names or answers, on those after it."""
    return str(error.args[0] if error.args else error).strip().split("\n")[0].rstrip(".")
