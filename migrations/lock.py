"""One migrating process at a time: `flock` on a file beside a SQLite database, a session advisory lock in PostgreSQL.

Both are asked for again and again rather than waited for. A process blocked inside `SELECT pg_advisory_lock(…)` holds a
snapshot, and the CREATE INDEX CONCURRENTLY of the process that has the lock waits for every snapshot: neither would ever end.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from domain.clock import Clock, SystemClock
from domain.errors import AlreadyRunning, OperatorError

# Advisory locks are numbers that everything using one database shares: "carrel" in ASCII.
ADVISORY_KEY = int.from_bytes(b"carrel", "big")
POLL_MIN_S = 0.01
POLL_MAX_S = 0.25

Execute = Callable[[str, tuple[int]], Any]


def lock_path(database: Path) -> Path:
    """The lock file of a SQLite database: beside it, and never deleted, since a waiting process may already have it open."""
    return database.with_name(database.name + ".migrate.lock")


@contextmanager
def file_lock(database: Path, wait_s: float, clock: Clock | None = None) -> Iterator[None]:
    """Holds the lock file of `database`; the kernel releases it if the process dies.

    Raises AlreadyRunning after `wait_s` seconds, and OperatorError when the file cannot be opened.
    """
    path = lock_path(database)
    try:
        file = path.open("ab", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as error:
        raise OperatorError(f"Cannot open the lock file {path}: {error.strerror}.") from error
    with closing(file):  # closing releases the lock

        def acquire() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        _wait_until(acquire, wait_s, clock or SystemClock())
        yield


@contextmanager
def advisory_lock(execute: Execute, wait_s: float, clock: Clock | None = None) -> Iterator[None]:
    """Holds the advisory lock of the database that `execute(sql, parameters)` runs in, and that session must do the migrating.

    The session must be a direct one in autocommit mode (a pooler in transaction mode would give the lock to another session); the
    server releases the lock if the session dies. Raises AlreadyRunning after `wait_s` seconds.
    """

    def acquire() -> bool:
        return bool(execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_KEY,)).fetchone()[0])

    _wait_until(acquire, wait_s, clock or SystemClock())
    try:
        yield
    finally:
        execute("SELECT pg_advisory_unlock(%s)", (ADVISORY_KEY,))


def _wait_until(acquire: Callable[[], bool], wait_s: float, clock: Clock) -> None:
    deadline_ms = clock.monotonic_ms() + wait_s * 1000
    pause_s = POLL_MIN_S
    while not acquire():
        if clock.monotonic_ms() >= deadline_ms:
            raise AlreadyRunning(f"Another process has been migrating this database for {wait_s:g} s: let it finish, then try again.")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_MAX_S)
