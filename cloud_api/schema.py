"""Whether the database has a schema that this version works with: its own, or one step newer.

A release's migration runs before its programs are exchanged, one machine after the other, so that for a while the old program works on
the new schema. Every cloud migration is written for that (docs/migrations.md); of two steps nobody has promised it.
"""

from __future__ import annotations

import threading

import psycopg2.errors

from cloud_api.database import CloudDatabase
from domain.clock import Clock
from domain.errors import SchemaError, Unavailable
from migrations.files import shipped_files
from migrations.history import HISTORY_TABLE, STEPS_NEWER_MAX, HistoryRow, demand_prefix

# How long a load balancer, or a device, should wait before it asks again whether someone has migrated the database.
SCHEMA_RETRY_AFTER_S = 10.0
# While requests are refused, the database is asked again at most so often.
RECHECK_EVERY_MS = 1_000


def demand_schema(database: CloudDatabase) -> str:
    """The name of the newest migration applied. Raises SchemaError unless it is one that this version can work with, Unavailable."""
    rows, files = _history(database), shipped_files("cloud")
    demand_prefix(rows[: len(files)], files)
    if len(rows) < len(files):
        raise SchemaError("The database's schema is older than this version: run `carrel-migrate --db cloud upgrade`.")
    if len(rows) > len(files) + STEPS_NEWER_MAX:
        raise SchemaError(f"The database's schema is newer than this version: install Carrel {rows[-1].app_version} or newer.")
    return rows[-1].name


def _history(database: CloudDatabase) -> list[HistoryRow]:
    try:
        with database.transaction(read_only=True) as cursor:
            cursor.execute(f"SELECT {', '.join(HistoryRow._fields)} FROM {HISTORY_TABLE} ORDER BY id")
            return [HistoryRow(*row) for row in cursor.fetchall()]
    except psycopg2.errors.UndefinedTable:
        return []
    except psycopg2.errors.InsufficientPrivilege as error:
        raise SchemaError("The database's tables belong to another user: connect as their owner.") from error


class SchemaGuard:
    """Keeps requests away from a schema that this version does not know. One for each process, for all its threads.

    The database is asked before the first request, and by /readyz, which whoever distributes the requests asks every few seconds; what
    it answered holds for the requests in between, so that they cost no statement more.
    """

    def __init__(self, database: CloudDatabase, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._refusal: str | None = None
        self._known = False
        self._next_check_ms = 0

    def ready(self) -> str:
        """Asks the database: the newest migration applied. Raises Unavailable when it is not reachable or not of this version."""
        try:
            applied = demand_schema(self._database)
        except SchemaError as error:
            self._remember(error.message)
            raise Unavailable(error.message, SCHEMA_RETRY_AFTER_S) from error
        self._remember(None)
        return applied

    def demand(self) -> None:
        """Before a request. Raises Unavailable as long as `ready` does."""
        with self._lock:
            if self._known:
                return
            now_ms = self._clock.monotonic_ms()
            if self._refusal is not None and now_ms < self._next_check_ms:
                raise Unavailable(self._refusal, SCHEMA_RETRY_AFTER_S)
            self._next_check_ms = now_ms + RECHECK_EVERY_MS
        self.ready()

    def _remember(self, refusal: str | None) -> None:
        with self._lock:
            self._refusal, self._known = refusal, refusal is None
