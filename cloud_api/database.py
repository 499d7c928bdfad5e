"""Connections and transactions: the one place that opens PostgreSQL, sets a session up, and translates what the driver raises.

The pool belongs to one process and opens connections when they are first needed, so it may be made before a fork but not used
on both sides of one. Between transactions nothing is left in a session: pgbouncer in transaction mode may stand in between, and an
address with several hosts is handed to libpq as it is.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import peewee
import psycopg2
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase
from psycopg2 import errors as postgres_errors
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import new_array_type, new_type, register_type

from cloud_api.commit_watch import CommitWatch
from cloud_api.config import Database as DatabaseSettings
from domain.errors import InvalidConfig, Problem, SchemaError, StorageFull, Unavailable

__all__ = ["CloudDatabase", "Cursor", "one_row"]

T = TypeVar("T")

CONNECTIONS_MAX = 30
CONNECTIONS_IDLE = 10
# How often a transaction that lost against another one, or lost its connection, is run in all.
TRIES_MAX = 5
RETRY_PAUSE_S = 0.02
# While the database cannot be reached, one thread at a time tries; for this long after a failure the others are refused at once.
DOWN_PAUSE_S = 1.0
# A peer that vanished without a word is noticed after idle + interval × count seconds, and after this long when data is under way.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 20_000}
# What a session may be told during COMMIT when its client_min_messages asks for it. PostgreSQL translates the names of all other levels.
_CHATTER = ("DEBUG", "LOG")
_BEGIN_WRITING = "BEGIN"
# What row-level security goes by (cloud_api/models/wall.sql), for one transaction.
_ONE_SCHOOL = "SELECT set_config('carrel.school_id', %s, true)"
_EVERY_SCHOOL = "; SET LOCAL carrel.every_school = 'on'"
_SCHEMES = ("postgresql://", "postgres://")
# serialization_failure, deadlock_detected: PostgreSQL rolled the transaction back and says to run it again.
_LOST_TO_ANOTHER = (postgres_errors.SerializationFailure, postgres_errors.DeadlockDetected)


def _plain(text: str | bytes | None, cursor: Any) -> str | None:
    return None if text is None else str(text).replace("-", "")


# Ids come out of PostgreSQL in Carrel's internal form, 32 hex digits; peewee would have them made into UUID objects, one by one.
_UUID_OID, _UUID_ARRAY_OID = 2950, 2951
_PLAIN_ID = new_type((_UUID_OID,), "CARREL_ID", _plain)
_PLAIN_IDS = new_array_type((_UUID_ARRAY_OID,), "CARREL_IDS", _PLAIN_ID)


def one_row(cursor: Cursor) -> tuple[Any, ...]:
    """The row of a statement that always has one: an aggregate, a row that the schema demands, RETURNING of one of these."""
    row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        raise SchemaError("A row is missing that this version's schema always has. Run `carrel-cloud doctor`")
    return row


class OverflowPool(PooledPostgresqlDatabase):  # type: ignore[misc]  # peewee is not typed
    """peewee's pool with an overflow: up to `max_connections` in use, of which `keep_idle` stay open when they are given back.

    Every check-out asks the server `SELECT 1`, so a backend that was killed meanwhile is replaced before anyone notices.
    """

    keep_idle = CONNECTIONS_IDLE

    def _connect(self) -> Any:
        connection = super()._connect()
        register_type(_PLAIN_ID, connection)
        register_type(_PLAIN_IDS, connection)
        return connection

    def _close(self, conn: Any, close_conn: bool = False) -> None:
        with self._pool_lock:
            super()._close(conn, close_conn or len(self._connections) >= self.keep_idle)


class _ConnectionDied(Exception):
    """The connection ended before COMMIT was sent: nothing was written."""


class CloudDatabase:
    """The school's PostgreSQL for one process; safe for threads, each of which has at most one transaction at a time.

    It is an administrator's: its transactions reach every school, unless they are about one. Requests get `narrowed()`.
    """

    def __init__(
        self,
        url: str,
        max_connections: int = CONNECTIONS_MAX,
        keep_idle: int = CONNECTIONS_IDLE,
        settings: DatabaseSettings | None = None,
    ) -> None:
        if not url.startswith(_SCHEMES):
            raise InvalidConfig(
                "DATABASE_URL", [Problem("DATABASE_URL", "invalid", "must be an address like postgresql://user@host/database")]
            )
        settings = settings or DatabaseSettings()
        dsn = url.replace("postgres://", "postgresql://", 1)
        self.url = dsn
        self._pool = OverflowPool(dsn, max_connections=max_connections, timeout=settings.wait_s, **_session(settings))
        self._pool.keep_idle = keep_idle
        self._down_until_s = 0.0
        self._commits = CommitWatch(settings.statement_timeout_s)
        self._reach = _EVERY_SCHOOL

    @classmethod
    def configured(cls, url: str, settings: DatabaseSettings) -> CloudDatabase:
        """The database at `url` with the pool that the configuration asks for."""
        return cls(url, settings.connections_max, settings.connections_idle, settings)

    def narrowed(self) -> CloudDatabase:
        """The same database, over the same connections, for requests: a transaction reaches no row of any school before it is about one.

        That is by `school`, or by asking a gate of the wall between schools (cloud_api/models/gates.sql) with a secret.
        """
        other = copy.copy(self)
        other._reach = ""
        return other

    @contextmanager
    def transaction(self, *, read_only: bool = False, snapshot: bool = False, school: str | None = None) -> Iterator[Cursor]:
        """A cursor inside BEGIN … COMMIT, rolled back when the block raises. Not to be nested. `school` is the id of the one it is about.

        `snapshot` (which implies read-only) sees the database at one moment (REPEATABLE READ); otherwise every statement sees what
        is committed. Raises Unavailable when no connection can be had or the connection dies, StorageFull when the server's disk is
        full; IntegrityError and its kin of psycopg2 pass through to the storage module that caused them.
        """
        try:
            with self._open_transaction(_begin(read_only, snapshot), school) as cursor:
                yield cursor
        except _ConnectionDied as error:
            raise Unavailable("The connection to the database was lost; nothing was written.") from error
        except _LOST_TO_ANOTHER as error:
            raise Unavailable("Another change came in between; nothing was written.") from error

    def retrying(self, fn: Callable[[Cursor], T], *, school: str | None = None) -> T:
        """What `fn` returns, run in a transaction of its own; run again while it loses against others or loses its connection.

        `fn` may run up to TRIES_MAX times and must have no effect but through its cursor. When the connection dies *during* COMMIT
        nobody can say whether it took place: that is Unavailable at once, and the caller's request must be one that can be repeated.
        """
        number = 1
        while True:
            try:
                with self._open_transaction(_begin(False, False), school) as cursor:
                    return fn(cursor)
            except (*_LOST_TO_ANOTHER, _ConnectionDied) as error:
                if number == TRIES_MAX:
                    raise Unavailable(f"The transaction did not succeed in {TRIES_MAX} attempts; nothing was written.") from error
            time.sleep(random.uniform(0, RETRY_PAUSE_S * 2**number))
            number += 1

    def ping(self) -> None:
        """Check that the database can be reached; Unavailable says why not."""
        with self._connection():
            pass

    def close(self) -> None:
        """Close every connection; those in use by other threads break."""
        self._commits.close()
        self._pool.close_all()

    @contextmanager
    def _open_transaction(self, begin: str, school: str | None) -> Iterator[Cursor]:
        with self._connection() as connection:
            with _translated(connection), connection.cursor() as cursor:
                cursor.execute(*_bound(begin, self._reach, school))
                yield cursor
            # COMMIT only here: an error of the block has left through _translated, and the pool rolls back at check-in.
            with self._commits.over(connection) if begin == _BEGIN_WRITING else nullcontext():
                _commit(connection)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        self._check_out()
        try:
            yield self._pool.connection()
        finally:
            self._pool.close()

    def _check_out(self) -> None:
        if not self._pool.is_closed():
            raise RuntimeError("this thread is inside a transaction already")
        if time.monotonic() < self._down_until_s:
            raise Unavailable("The database cannot be reached.", retry_after_s=DOWN_PAUSE_S)
        try:
            self._pool.connect()
        except MaxConnectionsExceeded as error:
            raise Unavailable("The server is busy: every connection to the database is in use.") from error
        except peewee.PeeweeException as error:
            self._down_until_s = time.monotonic() + DOWN_PAUSE_S
            raise Unavailable(f"The database cannot be reached: {_first_line(error)}.", retry_after_s=DOWN_PAUSE_S) from error


def _session(settings: DatabaseSettings) -> dict[str, Any]:
    """What libpq is told when a connection opens; nothing is set afterwards."""
    session: dict[str, Any] = {"connect_timeout": settings.connect_timeout_s, "application_name": "carrel-cloud", **_KEEPALIVES}
    if settings.startup_options:
        session["options"] = f"-c timezone=UTC -c statement_timeout={settings.statement_timeout_s}s"
    return session


def _begin(read_only: bool, snapshot: bool) -> str:
    if snapshot:
        return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    return "BEGIN READ ONLY" if read_only else _BEGIN_WRITING


def _bound(begin: str, reach: str, school: str | None) -> tuple[str, tuple[str, ...] | None]:
    """The beginning of a transaction that reaches one school's rows, or as many as `reach` says; until its end, behind pgbouncer as well."""
    return (f"{begin}; {_ONE_SCHOOL}", (school,)) if school is not None else (f"{begin}{reach}", None)


@contextmanager
def _translated(connection: Any) -> Iterator[None]:
    try:
        yield
    except postgres_errors.DiskFull as error:
        raise StorageFull("The database server has no space left; nothing was written.") from error
    except postgres_errors.OutOfMemory as error:
        raise Unavailable("The database server is short of memory; nothing was written.") from error
    except postgres_errors.QueryCanceled as error:
        raise Unavailable("The database took too long; nothing was written.") from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        if connection.closed:
            raise _ConnectionDied from error
        raise


def _commit(connection: Any) -> None:
    del connection.notices[:]
    try:
        with connection.cursor() as cursor:
            cursor.execute("COMMIT")
            status = cursor.statusmessage
    except postgres_errors.DiskFull as error:
        raise StorageFull("The database server has no space left; nothing was written.") from error
    except _LOST_TO_ANOTHER:
        raise
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise Unavailable("The connection to the database was lost while the change was being made permanent.") from error
    if status != "COMMIT":  # PostgreSQL answers ROLLBACK when a statement had failed
        raise RuntimeError("a statement failed and its error was swallowed inside the transaction")
    if any(not notice.startswith(_CHATTER) for notice in connection.notices):
        # The only warning of COMMIT: it was called off, by CommitWatch or a person, while it waited for a synchronous standby. The primary
        # has committed; if it fails now, nobody else has.
        raise Unavailable("The database could not make the change safe on its standby.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
