"""A copy of a device's database in memory that writes down what it executes."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from domain.errors import OperatorError
from migrations.engines import Limits, SqliteEngine, first_line
from migrations.engines.sqlite import DeclaringSqlite
from migrations.pragmas import SAFE
from migrations.preview.script import Script
from migrations.sqlite_copy import copy_database, reading_live

BUSY_TIMEOUT_S = 5.0
# Statements that only tell; a script needs none of them. PRAGMA with a value sets, and foreign_key_check is what the tool decides by.
_READS = re.compile(r"\s*(SELECT\b|PRAGMA\s+(?!foreign_key_check\b)\w+\s*(\(.*\))?\s*\Z)", re.IGNORECASE | re.DOTALL)


class RecordingSqlite(DeclaringSqlite):
    """SQLite in memory that writes down what it executes."""

    script: Script
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


class SqliteCopy(SqliteEngine):
    """The engine over a copy in memory."""

    def __init__(self, path: Path, script: Script, limits: Limits) -> None:
        super().__init__(path, limits)
        self._recording = RecordingSqlite(":memory:", pragmas=dict(SAFE), autoconnect=False)
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
        with reading_live(path, BUSY_TIMEOUT_S) as source:
            copy_database(source, into)
    except sqlite3.Error as error:
        raise OperatorError(f"Cannot read {path}: {first_line(error)}.") from error
