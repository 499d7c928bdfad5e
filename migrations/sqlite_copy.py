"""One SQLite database copied over another with the backup API, all of it or nothing, and never waiting for ever.

Without the callback that looks at the time, Python's `Connection.backup` asks for a lock until it has it: a transaction that somebody left
open in a shell would hold it for good.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from domain.clock import Clock, SystemClock

if TYPE_CHECKING:
    from migrations.waiting import Tell

# 4 MB between two looks at how far it has come.
STEP_PAGES = 1024
RETRY_S = 0.05
WAIT_S = 10.0
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def copy_database(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    *,
    tell: Tell | None = None,
    clock: Clock | None = None,
    at_that_moment: Callable[[sqlite3.Connection], None] = lambda source: None,
) -> None:
    """Copies what `source` holds at this moment over what `target` holds, in one transaction of `target`.

    Neither may be in a transaction. `tell` hears of the share that is done; `at_that_moment` may read from `source` what is copied, before it
    is. Raises sqlite3.Error, also when the one or the other was locked for WAIT_S; then `target` is as it was.
    """
    clock = clock or SystemClock()
    locked_since_ms: int | None = None

    def look(status: int, remaining: int, total: int) -> None:
        nonlocal locked_since_ms
        if status not in _LOCKED:
            locked_since_ms = None
            if tell and total:
                tell(f"{100 * (total - remaining) // total} %")
            return
        now_ms = clock.monotonic_ms()
        locked_since_ms = now_ms if locked_since_ms is None else locked_since_ms
        if now_ms - locked_since_ms >= WAIT_S * 1000:
            raise sqlite3.OperationalError(f"the database was locked by another program for {WAIT_S:g} s")

    with _one_moment(source):
        at_that_moment(source)
        source.backup(target, pages=STEP_PAGES, progress=look, sleep=RETRY_S)


@contextmanager
def _one_moment(source: sqlite3.Connection) -> Iterator[None]:
    """A read transaction: without it a copy in steps begins anew whenever another program writes, and might never end."""
    source.execute("BEGIN")
    try:
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        yield
    finally:
        source.execute("ROLLBACK")


@contextmanager
def reading_file(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that nobody else has open or changes; nothing appears beside it. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)) as connection:
        yield connection


@contextmanager
def reading_live(path: Path, busy_timeout_s: float) -> Iterator[sqlite3.Connection]:
    """A query-only connection to a database that others may have open. Never makes the file. Raises sqlite3.Error.

    Not `mode=ro`, which cannot open a WAL database whose -shm file is gone.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only = ON")
        yield connection


def value_of(connection: sqlite3.Connection, pragma: str) -> int:
    """The value of a pragma that is a number."""
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
