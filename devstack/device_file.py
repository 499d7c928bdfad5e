"""The device's SQLite file, read from another process while the daemon may be running.

Through SQLite, read-only, and never with `open()`: a copy would miss what is in the -wal, and opening it in the daemon's own process would
drop its locks. A read-only connection neither writes nor checkpoints, which is the daemon's alone to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from domain.errors import Unavailable

BUSY_TIMEOUT_S = 5.0


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees the file as it is at its first query, whatever the daemon writes meanwhile. Raises Unavailable."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as conn:
            conn.execute("PRAGMA query_only = 1")
            conn.execute("BEGIN")
            yield conn
    except sqlite3.Error as error:
        raise Unavailable(f"The device's database {path} cannot be read: {error}.") from error


def school_address(path: Path) -> str | None:
    """The address of the cloud API at which the device is enrolled; None for one that is not."""
    with snapshot(path) as conn:
        row = conn.execute("SELECT cloud_url FROM identity").fetchone()
    return str(row[0]) if row else None
