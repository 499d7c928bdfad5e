"""One migrating process at a time: `flock` on a file beside a SQLite database, a session advisory lock in PostgreSQL.

A device's database has an owner as well, the daemon that works on it. It holds a second file beside the database from before it migrates
until it has closed it. Others share that file while they change the schema, so that neither comes while the other is there.

Both are asked for again and again rather than waited for. A process blocked inside `SELECT pg_advisory_lock(…)` holds a
snapshot, and the CREATE INDEX CONCURRENTLY of the process that has the lock waits for every snapshot: neither would ever end.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from domain.errors import AlreadyRunning, OperatorError
from migrations.private_files import create_private, real_path

# Advisory locks are numbers that everything using one database shares: "carrel" in ASCII.
ADVISORY_KEY = int.from_bytes(b"carrel", "big")
POLL_MIN_S = 0.01
POLL_MAX_S = 0.25

Execute = Callable[[str, tuple[int]], Any]


def lock_path(database: Path) -> Path:
    """The lock file of a SQLite database: beside it, and never deleted, since a waiting process may already have it open."""
    database = real_path(database)
    return database.with_name(database.name + ".migrate.lock")


@contextmanager
def file_lock(database: Path, wait_s: float) -> Iterator[None]:
    """Holds the lock file of `database`; the kernel releases it if the process dies.

    Raises AlreadyRunning after `wait_s` seconds, and OperatorError when the file cannot be opened.
    """
    descriptor = _open_lock(lock_path(database), database)
    try:
        if not take_flock(descriptor, wait_s):
            raise _migrated_elsewhere(wait_s)
        yield
    finally:
        os.close(descriptor)  # which releases the lock


def take_flock(descriptor: int, wait_s: float) -> bool:
    """Locks an open file for this process alone; False when others have held it for `wait_s` seconds. Closing the descriptor lets go."""

    def acquire() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return _wait_until(acquire, wait_s)


def owner_path(database: Path) -> Path:
    """The lock file of the daemon that works on a SQLite database."""
    database = real_path(database)
    return database.with_name(database.name + ".daemon.lock")


@contextmanager
def owning(database: Path) -> Iterator[None]:
    """Holds a device's database for the daemon that works on it; the kernel lets go if the process dies.

    Raises AlreadyRunning at once when another daemon has it or somebody migrates it, OperatorError when the file cannot be opened.
    """
    descriptor = _open_lock(owner_path(database), database)
    with _flocked(descriptor, fcntl.LOCK_EX, f"Another process works on {database} or migrates it: let it finish, or stop it first."):
        yield


@contextmanager
def without_owner(database: Path) -> Iterator[None]:
    """Keeps daemons off a device's database; any number of processes may at the same time.

    A database without a daemon's lock file has none; making one here could shut out a daemon of another account. Raises AlreadyRunning
    at once while a daemon works on it, OperatorError when the lock file cannot be opened.
    """
    path = owner_path(database)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise OperatorError(f"Cannot open the lock file {path}: {error.strerror}.") from error
    with _flocked(descriptor, fcntl.LOCK_SH, f"A daemon works on {database}: stop it first; it migrates by itself when it starts."):
        yield


def _open_lock(path: Path, database: Path) -> int:
    """A descriptor of the lock file, which is made if need be. Raises OperatorError."""
    try:
        with suppress(FileExistsError):
            return create_private(path, real_path(database))
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise OperatorError(f"Cannot open the lock file {path}: {error.strerror}.") from error


@contextmanager
def _flocked(descriptor: int, how: int, refusal: str) -> Iterator[None]:
    """Locks the open file at once or raises AlreadyRunning; closes it in the end, which lets go."""
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunning(refusal) from error
        yield
    finally:
        os.close(descriptor)


def take_advisory_lock(execute: Execute, wait_s: float) -> None:
    """Takes the advisory lock of the database that `execute(sql, parameters)` runs in; closing that session releases it.

    The session must be a direct one in autocommit mode (a pooler in transaction mode would give the lock to another session), and
    must do the migrating itself, so that it loses the lock only together with its work. Raises AlreadyRunning after `wait_s` seconds.
    """

    def acquire() -> bool:
        return bool(execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_KEY,)).fetchone()[0])

    if not _wait_until(acquire, wait_s):
        raise _migrated_elsewhere(wait_s)


def _migrated_elsewhere(wait_s: float) -> AlreadyRunning:
    return AlreadyRunning(f"Another process has been migrating this database for {wait_s:g} s: let it finish, then try again.")


def _wait_until(acquire: Callable[[], bool], wait_s: float) -> bool:
    """Whether it succeeded within the time."""
    deadline_s = time.monotonic() + wait_s
    pause_s = POLL_MIN_S
    while not acquire():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_MAX_S)
    return True
