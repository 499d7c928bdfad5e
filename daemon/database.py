"""The device's SQLite file: one writer, query-only readers, and commits that are shared.

All writes go through one thread with one connection. Requests that wait at the same moment share a transaction, each behind a savepoint of
its own, so that one fsync pays for all of them; a 2xx means that this fsync has returned (WAL, synchronous=FULL). Only the writer writes
and checkpoints, and it closes last: two connections doing so at once can corrupt a WAL database in the SQLite versions in use
(docs/decisions/0003). Nothing but SQLite may open the file, its -wal or its -shm in this process.

Beside the file lie a journal of what is unsent (daemon/recovery/journal.py), for the day on which the file is damaged, and a ballast for the one on
which the disk is full (daemon/recovery/ballast.py).
"""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import peewee

from daemon.connections import Connections
from daemon.recovery.ballast import Ballast
from daemon.recovery.journal import Journal
from daemon.sqlite_errors import concerns_all, is_damage, may_be_full, translate
from domain.errors import OperatorError, StorageFull, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

# Requests that may wait for the writer before new ones are turned away.
WRITE_QUEUE_MAX = 256
# Requests that share one commit at most.
GROUP_MAX = 64
# How long a caller waits for its commit before it is told to come back.
WRITE_WAIT_MAX_S = 30.0
# And for the file to be written anew, a gigabyte perhaps on a slow disk.
REWRITE_WAIT_MAX_S = 300.0
_FAILED = "The database failed; nothing is written until the daemon has started again."


@dataclass(frozen=True, slots=True)
class _Request:
    """A write that waits. `done` gets its result once the commit is durable."""

    work: Work
    done: Future[Any]
    finishing: bool
    alone: bool = False  # outside of a transaction


class DeviceDatabase:
    """Opens the migrated file at `path`; `write` and `read` may be called from any thread between `open` and `close`.

    `journal` gets every operation that is committed, before its caller hears of it; `ballast` is the room kept for a full disk.
    """

    def __init__(self, path: Path, *, journal: Journal | None = None, ballast: Ballast | None = None) -> None:
        self.path = path
        self.connections = Connections(path)
        self._journal, self._ballast = journal, ballast
        self._queue: queue.Queue[_Request | None] = queue.Queue(WRITE_QUEUE_MAX)
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
        try:
            self._opened.result(timeout=WRITE_WAIT_MAX_S)
        except (sqlite3.Error, peewee.DatabaseError) as error:
            raise OperatorError(f"{self.path} cannot be opened: {error}.") from error

    def close(self) -> None:
        """Waits for the writes that are under way, closes every reader, and the writer last. Calling it again does nothing."""
        with self._entry:
            if self._closing:
                return
            self._closing = True
        self._queue.put(None)
        self._writer.join(WRITE_WAIT_MAX_S)
        if self._journal is not None:
            self._journal.close()

    def write(self, work: Callable[[sqlite3.Connection], T], *, finishing: bool = False) -> T:
        """Runs `work(connection)` in a transaction on the writer thread and returns its result once the commit is durable.

        `work` must be short, must not wait for anything, and must not call `write` again. What it raises undoes its own changes and is
        raised here. A write that is `finishing`, because it settles what was accepted before, may use the room kept for a full disk; with
        nothing else left it may run twice, the first time in vain. Raises Unavailable when the queue is full, the wait too long or the
        database has failed, StorageFull when the disk is full.
        """
        done: Future[T] = Future()
        self._enqueue(_Request(work, done, finishing))
        try:
            return done.result(timeout=WRITE_WAIT_MAX_S)
        except TimeoutError:
            done.cancel()
            raise Unavailable("The disk is too slow right now.") from None

    def write_anew(self) -> None:
        """Writes the file and its journal anew, so that no byte is left of what was deleted; some 20 ms a megabyte, in which writes wait.

        Needs as much room again as the file has. Raises StorageFull, and Unavailable when readers keep at it for too long.
        """
        done: Future[None] = Future()
        self._enqueue(_Request(self._rewrite, done, finishing=False, alone=True))
        try:
            done.result(timeout=REWRITE_WAIT_MAX_S)
        except TimeoutError:
            done.cancel()
            raise Unavailable("The disk is too slow right now.") from None

    def _enqueue(self, request: _Request) -> None:
        with self._entry:
            if self._closing:
                raise Unavailable("The daemon is stopping.")
            try:
                self._queue.put_nowait(request)
            except queue.Full:
                raise Unavailable("Too many writes are waiting.") from None

    def _rewrite(self, conn: sqlite3.Connection) -> None:
        conn.execute("VACUUM")
        (busy, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise Unavailable("The database is being read: its old pages cannot be removed yet.")
        if self._journal is not None:
            self._journal.write_anew()
            self._journal.follow(conn)
            if self._journal.is_behind:
                raise StorageFull("The side file of unsent operations cannot be written anew.")

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
        try:
            conn.execute("BEGIN")
            try:
                yield conn
            finally:
                conn.execute("ROLLBACK")
        except (sqlite3.DatabaseError, peewee.DatabaseError) as error:
            self._note_damage(error)
            raise

    def look_through(self) -> None:
        """Reads every page, some 4 ms a megabyte, while everything else goes on. Raises Unavailable, with `failure` set, when one is damaged."""
        with self.read() as conn:
            found = str(conn.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            self._fail(sqlite3.DatabaseError(found.splitlines()[-1]))
            raise Unavailable(_FAILED)

    def _connection(self) -> sqlite3.Connection:
        conn: sqlite3.Connection = self.connections.connection()  # type: ignore[no-untyped-call]  # peewee is not typed
        return conn

    def _run_writer(self) -> None:
        self.connections.writer_thread = threading.get_ident()
        try:
            self.connections.connect()
            conn = self._connection()
            self._follow(conn)
            self._opened.set_result(None)
        except Exception as error:  # noqa: BLE001  # handed to the thread that opens
            self._opened.set_exception(error)
            return
        for group in self._groups():
            self._commit_group(conn, group)
        self.connections.close_readers()
        self.connections.close()

    def _groups(self) -> Iterator[list[_Request]]:
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

    def _commit_group(self, conn: sqlite3.Connection, group: list[_Request]) -> None:
        started = [request for request in group if request.done.set_running_or_notify_cancel()]
        if self.failure is not None:
            _refuse(started, Unavailable(_FAILED))
            return
        if self._ballast is not None and not self._ballast.restore():
            _refuse([request for request in started if not request.finishing], StorageFull())
            started = [request for request in started if request.finishing]
        alone = [request for request in started if request.alone]
        if together := [request for request in started if not request.alone]:
            self._commit(conn, together)
        for request in alone:
            self._run_alone(conn, request)

    def _run_alone(self, conn: sqlite3.Connection, request: _Request) -> None:
        if self.failure is not None:
            _refuse([request], Unavailable(_FAILED))
            return
        try:
            result = request.work(conn)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self._abandon(conn, error, [request])
            return
        request.done.set_result(result)

    def _commit(self, conn: sqlite3.Connection, started: list[_Request]) -> None:
        settled: list[Callable[[], None]] = []
        changes = conn.total_changes
        try:
            conn.execute("BEGIN IMMEDIATE")
            for request in started:
                settled.append(_run_in_savepoint(conn, request.work, request.done))
            conn.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._abandon(conn, error, started)
            return
        if conn.total_changes != changes:
            self._follow(conn)
        for settle in settled:
            settle()

    def _follow(self, conn: sqlite3.Connection) -> None:
        """Has the journal take over what was committed. The commit holds whatever becomes of that."""
        if self._journal is None:
            return
        try:
            self._journal.follow(conn)
        except sqlite3.Error as error:
            self._fail(error)

    def _abandon(self, conn: sqlite3.Connection, error: BaseException, waiting: list[_Request]) -> None:
        """Nothing of the group was committed: says so to everyone who waits, or tries again with the room that the ballast leaves."""
        try:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
        except sqlite3.Error:
            log.exception("rollback failed")
        known = translate(error)
        if may_be_full(error) and self._ballast is not None and not self._ballast.has_room():
            known = StorageFull()
        if isinstance(known, StorageFull) and self._ballast is not None and self._ballast.release():
            _refuse([request for request in waiting if not request.finishing], known)
            if finishing := [request for request in waiting if request.finishing]:
                self._commit(conn, finishing)
            return
        if isinstance(error, sqlite3.Error) and known is error:
            self._fail(error)
            known = Unavailable(_FAILED)
        if known is not error:
            known.__cause__ = error
        _refuse(waiting, known)

    def _note_damage(self, error: BaseException) -> None:
        """A reader that meets a damaged page: `failure` ends the process, and the next one sets the file aside (daemon/recovery/replacement.py)."""
        for found in (error, error.__cause__, error.__context__):
            if isinstance(found, sqlite3.Error) and is_damage(found):
                self._fail(found)
                raise Unavailable(_FAILED) from error

    def _fail(self, error: sqlite3.Error) -> None:
        self.failure = f"{type(error).__name__}: {error}"
        log.error("the database failed: %s", error)


def _refuse(requests: Sequence[_Request], error: BaseException) -> None:
    for request in requests:
        request.done.set_exception(error)


def _run_in_savepoint(conn: sqlite3.Connection, work: Work, done: Future[Any]) -> Callable[[], None]:
    """Runs one request; returns what tells its caller, to be called after the commit."""
    conn.execute("SAVEPOINT request")
    try:
        result = work(conn)
    except BaseException as error:  # whatever it is, it concerns this caller and no other
        if isinstance(error, sqlite3.Error) and (not conn.in_transaction or concerns_all(error)):
            raise  # SQLite itself rolled everything back, there is no room for anybody, or nothing that follows can be trusted
        conn.execute("ROLLBACK TO request")
        conn.execute("RELEASE request")
        failed = translate(error)
        return lambda: done.set_exception(failed)
    conn.execute("RELEASE request")
    return lambda: done.set_result(result)
