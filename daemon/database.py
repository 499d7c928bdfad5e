"""The device's SQLite file: one writer, query-only readers, and commits that are shared.

All writes go through one thread with one connection. Requests that wait at the same moment share a transaction, each behind a savepoint of
its own, so that one fsync pays for all of them; a 2xx means that this fsync has returned (WAL, synchronous=FULL). Only the writer writes
and checkpoints, and it closes last: two connections doing so at once can corrupt a WAL database in the SQLite versions in use
(docs/decisions/0003). Nothing but SQLite may open the file, its -wal or its -shm in this process.
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import peewee

from domain.errors import CarrelError, OperatorError, StorageFull, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

# Requests that may wait for the writer before new ones are turned away.
WRITE_QUEUE_MAX = 256
# Requests that share one commit at most.
GROUP_MAX = 64
# How long a caller waits for its commit before it is told to come back.
WRITE_WAIT_MAX_S = 30.0
BUSY_TIMEOUT_MS = 5_000
JOURNAL_SIZE_LIMIT_BYTES = 16 * 1024 * 1024
WRITER_CACHE_KIB = 2_000
# There is a reader for every thread that answers requests.
READER_CACHE_KIB = 512

_COMMON_PRAGMAS = {
    "foreign_keys": 1,
    "busy_timeout": BUSY_TIMEOUT_MS,
    "cell_size_check": 1,
    "trusted_schema": 0,
    "mmap_size": 0,
}
_WRITER_PRAGMAS = {
    "cache_size": -WRITER_CACHE_KIB,
    "journal_mode": "wal",
    "synchronous": "full",
    "journal_size_limit": JOURNAL_SIZE_LIMIT_BYTES,
}
_READER_PRAGMAS = {"cache_size": -READER_CACHE_KIB, "wal_autocheckpoint": 0, "query_only": 1}
if sys.platform == "darwin":  # fsync alone does not reach the platter there
    _WRITER_PRAGMAS |= {"fullfsync": 1, "checkpoint_fullfsync": 1}


class _Reader(sqlite3.Connection):
    """A query-only connection. Unlike its base it can be referred to weakly: it is closed with the thread that opened it."""


class _Connections(peewee.SqliteDatabase):
    """One connection a thread: the writer thread's may write, every other is query-only. Knows the readers that are open, to close them."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.writer_thread: int | None = None
        self.readers: weakref.WeakSet[sqlite3.Connection] = weakref.WeakSet()
        self._readers_lock = threading.Lock()

    def _connect(self) -> sqlite3.Connection:
        writing = threading.get_ident() == self.writer_thread
        conn = sqlite3.connect(
            self.database,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
            factory=sqlite3.Connection if writing else _Reader,
        )
        for name, value in (_COMMON_PRAGMAS | (_WRITER_PRAGMAS if writing else _READER_PRAGMAS)).items():
            conn.execute(f"PRAGMA {name} = {value}")
        if not writing:
            with self._readers_lock:
                self.readers.add(conn)
        return conn

    def close_readers(self) -> None:
        with self._readers_lock:
            for reader in list(self.readers):
                reader.close()


class DeviceDatabase:
    """Opens the migrated file at `path`; `write` and `read` may be called from any thread between `open` and `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections = _Connections(path)
        self._queue: queue.Queue[tuple[Work, Future[Any]] | None] = queue.Queue(WRITE_QUEUE_MAX)
        self._writer = threading.Thread(target=self._run_writer, name="sqlite-writer", daemon=True)
        self._opened: Future[None] = Future()
        self._closing = False
        self._entry = threading.Lock()  # makes sure that nothing is queued behind the request to close
        # Why nothing can be written any more. After a failed fsync the page cache lies: only a new process that opens and verifies the file may
        # go on.
        self.failure: str | None = None

    def open(self, models: Sequence[type[peewee.Model]] = ()) -> None:
        """Starts the writer and binds the models. The schema must be at head."""
        try:
            os.chmod(self.path, 0o600)
        except OSError as error:
            raise OperatorError(
                f"{self.path} cannot be used: {error.strerror}. It must belong to the account that the daemon runs under."
            ) from error
        self.connections.bind(list(models), bind_refs=False, bind_backrefs=False)
        self._writer.start()
        self._opened.result(timeout=WRITE_WAIT_MAX_S)

    def close(self) -> None:
        """Waits for the writes that are under way, closes every reader, and the writer last. Calling it again does nothing."""
        with self._entry:
            if self._closing:
                return
            self._closing = True
        self._queue.put(None)
        self._writer.join(WRITE_WAIT_MAX_S)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work(connection)` in a transaction on the writer thread and returns its result once the commit is durable.

        `work` must be short, must not wait for anything, and must not call `write` again. What it raises undoes its own changes and is
        raised here. Raises Unavailable when the queue is full, the wait too long or the database has failed, StorageFull when the disk is full.
        """
        done: Future[T] = Future()
        with self._entry:
            if self._closing:
                raise Unavailable("The daemon is stopping.")
            try:
                self._queue.put_nowait((work, done))
            except queue.Full:
                raise Unavailable("Too many writes are waiting.") from None
        try:
            return done.result(timeout=WRITE_WAIT_MAX_S)
        except TimeoutError:
            done.cancel()
            raise Unavailable("The disk is too slow right now.") from None

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A query-only connection of this thread inside one read transaction: everything read in it is of one moment. Keep it short.

        A read inside a read of the same thread is part of it.
        """
        if self._closing:
            raise Unavailable("The daemon is stopping.")
        self.connections.connect(reuse_if_open=True)
        conn = self._connection()
        if conn.in_transaction:
            yield conn
            return
        conn.execute("BEGIN")
        try:
            yield conn
        finally:
            conn.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        conn: sqlite3.Connection = self.connections.connection()  # type: ignore[no-untyped-call]  # peewee is not typed
        return conn

    def _run_writer(self) -> None:
        self.connections.writer_thread = threading.get_ident()
        try:
            self.connections.connect()
            conn = self._connection()
            self._opened.set_result(None)
        except Exception as error:  # noqa: BLE001  # handed to the thread that opens
            self._opened.set_exception(error)
            return
        for group in self._groups():
            self._commit_group(conn, group)
        self.connections.close_readers()
        self.connections.close()

    def _groups(self) -> Iterator[list[tuple[Work, Future[Any]]]]:
        """Waits for requests and gives those that wait at the moment, at least one, until the request to close, which is the last."""
        item = self._queue.get()
        while item is not None:
            group = [item]
            while len(group) < GROUP_MAX:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    break
                group.append(item)
            yield group
            item = item and self._queue.get()

    def _commit_group(self, conn: sqlite3.Connection, group: list[tuple[Work, Future[Any]]]) -> None:
        started = [(work, done) for work, done in group if done.set_running_or_notify_cancel()]
        settled: list[Callable[[], None]] = []
        if self.failure is not None:
            for _, done in started:
                done.set_exception(Unavailable("The database failed; nothing is written until the daemon has started again."))
            return
        try:
            conn.execute("BEGIN IMMEDIATE")
            for work, done in started:
                settled.append(_run_in_savepoint(conn, work, done))
            conn.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._abandon(conn, error, [done for _, done in started])
            return
        for settle in settled:
            settle()

    def _abandon(self, conn: sqlite3.Connection, error: BaseException, waiting: list[Future[Any]]) -> None:
        """Nothing of the group was committed: says so to everyone who waits."""
        try:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("rollback failed")
        known = translate(error)
        if isinstance(error, sqlite3.Error) and known is error:
            self.failure = type(error).__name__
            log.error("the database failed: %s", error)
        for done in waiting:
            done.set_exception(known)


def _run_in_savepoint(conn: sqlite3.Connection, work: Work, done: Future[Any]) -> Callable[[], None]:
    """Runs one request; returns what tells its caller, to be called after the commit."""
    conn.execute("SAVEPOINT request")
    try:
        result = work(conn)
    except BaseException as error:  # whatever it is, it concerns this caller and no other
        if isinstance(error, sqlite3.Error) and (not conn.in_transaction or _primary_code(error) in _BROKEN):
            raise  # SQLite itself rolled everything back (disk full, I/O error), or nothing that follows can be trusted
        conn.execute("ROLLBACK TO request")
        conn.execute("RELEASE request")
        failed = translate(error)
        return lambda: done.set_exception(failed)
    conn.execute("RELEASE request")
    return lambda: done.set_result(result)


def translate(error: BaseException) -> BaseException:
    """SQLite's errors in our words; anything else unchanged."""
    if isinstance(error, CarrelError) or not isinstance(error, sqlite3.Error):
        return error
    known = _TRANSLATED.get(_primary_code(error))
    if known is None:
        return error
    translated = known()
    translated.__cause__ = error
    return translated


# A file that another process holds for longer than the busy time-out is no broken file.
_TRANSLATED: dict[int, Callable[[], CarrelError]] = {
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_BUSY: lambda: Unavailable("Another program is using the database."),
}
_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code without what its extended codes add (sqlite.org/rescode.html); 0 for an error of the Python module."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
