"""A read-only session of PostgreSQL that writes down what it does not run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from migrations.engines import Limits, PostgresEngine
from migrations.engines.postgres import DeclaringPostgres
from migrations.preview.script import Script

_READS = re.compile(r"\s*(SELECT|SHOW|WITH|VALUES|TABLE)\b", re.IGNORECASE)


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


class RecordingPostgres(DeclaringPostgres):
    """PostgreSQL that reads, and writes down the rest. `declared` is true while a statement of `migrator.sql` runs: never executed."""

    script: Script
    declared = False

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        if self.declaring or not self.script.active:
            return super().execute_sql(sql, params)
        setting = sql.startswith("SELECT set_config")
        if _READS.match(sql) and not self.declared and not setting:
            return super().execute_sql(sql, params)
        self.script.add(self._with_values(sql, params))
        return _NoRows()

    def _with_values(self, sql: str, params: Any) -> str:
        # Without parameters psycopg2 leaves percent signs alone, but peewee always gives some, if empty.
        with closing(self.connection().cursor()) as cursor:  # type: ignore[no-untyped-call]
            text = cursor.mogrify(sql, params or ())
        return text.decode() if isinstance(text, bytes) else str(text)


class PostgresReader(PostgresEngine):
    """The engine over a read-only session."""

    def __init__(self, url: str, script: Script, limits: Limits) -> None:
        super().__init__(url, limits)
        recording = RecordingPostgres(self.database.database, autoconnect=False, **self.database.connect_params)
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
