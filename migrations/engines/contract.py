"""What the runner asks of a database, whichever it is, and how long it may wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import peewee as pw

from domain.errors import SchemaError
from migrations.files import MigrationFile
from migrations.schema.description import Schema


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

    def is_lost(self) -> bool:
        """Whether the connection broke, so that nobody knows what became of its transaction."""

    def schema(self) -> Schema:
        """The schema that the connected database has, without the history."""


def first_line(error: BaseException) -> str:
    """The first line of a foreign message: PostgreSQL puts values of rows, which may be names or answers, on those after it."""
    return str(error.args[0] if error.args else error).strip().split("\n")[0].rstrip(".")
