"""A school's PostgreSQL database for the runner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import peewee as pw

from domain.errors import PostgresUnavailable
from migrations.engines.contract import DeclaringDatabase, Limits, first_line
from migrations.files import MigrationFile
from migrations.lock import take_advisory_lock
from migrations.schema import postgres
from migrations.schema.description import Schema

CONNECT_TIMEOUT_S = 10
# A dead server or network is noticed after 30 + 3 × 10 s, also in the middle of a long statement.
KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# Those that a server of its version has are switched off.
UNLIMITED = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
# lock_not_available and deadlock_detected: another transaction was in the way, and nothing is wrong with the migration.
BLOCKED_CODES = frozenset({"55P03", "40P01"})


def with_database(url: str, name: str) -> str:
    """The address of another database of the same server. In the query of an address, a name would count more than that in its path."""
    base, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("dbname=")]
    return "?".join(filter(None, [re.sub(r"\A(postgres(?:ql)?://[^/]*)(?:/.*)?", rf"\1/{quote(name)}", base, count=1), "&".join(kept)]))


class DeclaringPostgres(DeclaringDatabase, pw.PostgresqlDatabase):
    """PostgreSQL for the runner."""


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
        # Migrations are about every school's rows. Row-level security goes by this, for the owner of the tables as well.
        self._set("carrel.every_school", "on")
        # What a role or a database has been given against hanging requests would end a migration in its middle.
        self.database.execute_sql("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)", (list(UNLIMITED),))

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

    def is_lost(self) -> bool:
        connection: Any = None if self.database.is_closed() else self.database.connection()  # type: ignore[no-untyped-call]
        return connection is None or bool(connection.closed)

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
