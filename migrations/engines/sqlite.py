"""A device's SQLite file for the runner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import peewee as pw

from domain.errors import OperatorError, SchemaError
from migrations.engines.contract import DeclaringDatabase, Limits, first_line
from migrations.files import MigrationFile
from migrations.lock import file_lock, without_owner
from migrations.pragmas import SAFE, durable
from migrations.private_files import create_private, real_path
from migrations.schema import sqlite
from migrations.schema.description import Schema


class DeclaringSqlite(DeclaringDatabase, pw.SqliteDatabase):
    """SQLite for the runner."""

    def rollback(self) -> None:
        """Nothing after a full disk and the like, upon which SQLite has done so itself: another error would hide the one that says what is wrong."""
        connection: Any = self.connection()  # type: ignore[no-untyped-call]
        if connection.in_transaction:
            super().rollback()


class SqliteEngine:
    """A SQLite file. WAL and 0600 from its first byte on.

    `for_owner`: the daemon that owns the file migrates it, so that its lock is not in the way. `token`: what every transaction of a
    migration writes into the file, once it is set (migrations.begun).
    """

    def __init__(self, path: Path, limits: Limits, *, for_owner: bool = False) -> None:
        self.path = real_path(path)
        self.token: int | None = None
        self._limits = limits
        self._for_owner = for_owner
        pragmas = {**SAFE, **durable()}
        self.database = DeclaringSqlite(str(self.path), pragmas=pragmas, timeout=limits.sqlite_busy_s, autoconnect=False)

    def exists(self) -> bool:
        try:
            return self.path.is_file()
        except OSError as error:
            raise OperatorError(f"Cannot look at {self.path}: {error.strerror}.") from error

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
            self._mark()
            yield

    @contextmanager
    def piecewise(self, file: MigrationFile) -> Iterator[None]:
        with self._unenforced():
            self._mark()
            yield

    def _mark(self) -> None:
        if self.token is not None:
            self.database.pragma("user_version", self.token)

    def check(self) -> None:
        orphans = self.database.execute_sql("PRAGMA foreign_key_check").fetchall()
        if orphans:
            child, _, parent, _ = orphans[0]
            raise SchemaError(f"{len(orphans)} rows would be left without their parents, the first in {child}, which refers to {parent}")

    def is_blocked(self, error: Exception) -> bool:
        return False  # the process lock and the busy timeout have done all the waiting there is to do

    def is_lost(self) -> bool:
        return False

    def schema(self) -> Schema:
        return sqlite.read_schema(self.database.execute_sql)

    def _create(self) -> None:
        """The empty file, readable by its owner alone. O_EXCL: opening an existing one here would drop the locks SQLite holds on it."""
        try:
            os.close(create_private(self.path, self.path))
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
