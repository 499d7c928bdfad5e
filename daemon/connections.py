"""Connections to the device's SQLite file: how each is set up, and which of them may write."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from pathlib import Path

import peewee

from migrations.pragmas import SAFE, durable

BUSY_TIMEOUT_MS = 5_000
JOURNAL_SIZE_LIMIT_BYTES = 16 * 1024 * 1024
WRITER_CACHE_KIB = 2_000
# There is a reader for every thread that answers requests.
READER_CACHE_KIB = 512

_COMMON_PRAGMAS = {**SAFE, "busy_timeout": BUSY_TIMEOUT_MS}
_WRITER_PRAGMAS = {
    "cache_size": -WRITER_CACHE_KIB,
    # What is deleted is overwritten with zeros (sqlite.org/pragma.html#pragma_secure_delete).
    "secure_delete": 1,
    "journal_mode": "wal",
    **durable(),
    "journal_size_limit": JOURNAL_SIZE_LIMIT_BYTES,
}
_READER_PRAGMAS = {"cache_size": -READER_CACHE_KIB, "wal_autocheckpoint": 0, "query_only": 1}


class _Reader(sqlite3.Connection):
    """A query-only connection. Unlike its base it can be referred to weakly: it is closed with the thread that opened it."""


class Connections(peewee.SqliteDatabase):
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
