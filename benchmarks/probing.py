"""Small writes, one after the other, while something else is done to the same database: the longest that one of them took is how long
somebody was held up.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2
from psycopg2 import errors as postgres_errors

from benchmarks.timing import seconds
from domain.clock import SystemClock
from domain.errors import OperatorError
from domain.ids import IdSource

# Between two writes, so that they leave the machine some of itself.
PAUSE_S = 0.002
# A write that is not through by then will never be.
WRITE_MAX_S = 60.0
# Between two tries of one write. SQLite's own busy timeout waits for up to a tenth of a second.
TRY_AGAIN_S = 0.001
# Written to before there are attempts.
PROBE_TABLE = "benchmark_probe"
_MAKE_PROBE_TABLE = f"CREATE TABLE IF NOT EXISTS {PROBE_TABLE} (at INTEGER)"
_WRITE_PROBE = f"INSERT INTO {PROBE_TABLE} VALUES (1)"
# What PostgreSQL says of a transaction that is to be run again; the cloud API does so as well (cloud_api/database.py).
_LOST_TO_ANOTHER = (postgres_errors.SerializationFailure, postgres_errors.DeadlockDetected)
_COPY_ATTEMPT = (
    "INSERT INTO question_attempts (school_id, id, student_id, question_id, correct, answered_at_ms, purpose, device_id, feed_no)"
    " SELECT school_id, %s, student_id, question_id, correct, answered_at_ms, purpose, device_id, feed_no FROM question_attempts LIMIT 1"
)

Write = Callable[[], None]


class Probe:
    """Writes in a thread, as long as its block. Afterwards `longest_ms` is the longest that a write took, its repetitions included."""

    def __init__(self, write: Write) -> None:
        self.longest_ms = 0.0
        self.writes = 0
        self._write = write
        self._stop = threading.Event()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """To be entered once. Raises OperatorError after the block when a write failed, or was held up for longer than WRITE_MAX_S."""
        with ThreadPoolExecutor(1, "probe") as pool:
            writes = pool.submit(self._run)
            try:
                yield
            finally:
                self._stop.set()
            try:
                writes.result()
            except (psycopg2.Error, sqlite3.Error) as error:
                raise OperatorError(f"A write failed while it was measured: {error}") from error

    def _run(self) -> None:
        while not (self._stop.is_set() and self.writes):  # at least one, however short the block is
            self.longest_ms = max(self.longest_ms, 1000 * seconds(self._write))
            self.writes += 1
            self._stop.wait(PAUSE_S)


@contextmanager
def postgres_writes(url: str, now_ms: Callable[[], int] | None = None) -> Iterator[Write]:
    """One more attempt at each call, of a device whose clock is `now_ms`, by default right; in a database without attempts, a row of a table
    that is made for it. A write that PostgreSQL wants to be repeated is.
    """
    ids = IdSource(now_ms or SystemClock().now_ms)
    with closing(psycopg2.connect(url, options=f"-c statement_timeout={WRITE_MAX_S:.0f}s -c carrel.every_school=on")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('question_attempts') IS NOT NULL")
            [has_attempts] = cursor.fetchone() or (False,)
            if not has_attempts:
                cursor.execute(_MAKE_PROBE_TABLE)

            def write() -> bool:
                try:
                    cursor.execute(*((_COPY_ATTEMPT, (ids.new(),)) if has_attempts else (_WRITE_PROBE,)))
                except _LOST_TO_ANOTHER:
                    return False
                return True

            yield lambda: _until_done(write)


@contextmanager
def sqlite_writes(path: str) -> Iterator[Write]:
    """A row of a table that is made for it at each call: SQLite has one lock for the whole file. Makes the file if it is not there."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_MAKE_PROBE_TABLE)

        def write() -> bool:
            try:
                connection.execute(_WRITE_PROBE)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                return False
            return True

        yield lambda: _until_done(write)


def _until_done(write: Callable[[], bool]) -> None:
    """Raises OperatorError when it is not done within WRITE_MAX_S."""
    deadline_s = time.monotonic() + WRITE_MAX_S
    while not write():
        if time.monotonic() > deadline_s:
            raise OperatorError(f"A write was held up for longer than {WRITE_MAX_S:.0f} s.")
        time.sleep(TRY_AGAIN_S)
