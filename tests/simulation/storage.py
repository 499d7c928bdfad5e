"""The device's database as a simulation needs it: the product's own, written on the caller's thread, mortal, and on a disk that may be full.

One thread makes a seed repeat exactly. Whatever the writer does with a piece of work (savepoint, commit, translation of errors) is the product's
code; only its queue is one that hands each piece on at once.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import peewee

from daemon.database import DeviceDatabase

T = TypeVar("T")
FOREVER = float("inf")
# SQLite's own limit, which is to say: none.
PAGES_MAX = 2**32 - 2


class DeviceCrash(BaseException):
    """The device loses power. No code of the product catches it for good."""


class Mortality:
    """Counts the moments that a device has left: the statements that it writes, its commits, its requests and their answers."""

    def __init__(self) -> None:
        self.moments_left: float = FOREVER

    def spend(self) -> None:
        """One moment passes. Raises DeviceCrash when it was the last, and from then on: the dead do nothing."""
        self.moments_left -= 1
        if self.moments_left <= 0:
            raise DeviceCrash


class MortalDatabase(DeviceDatabase):
    """See the module. `writes` counts commits, so that whoever has looked at the rows knows whether to look again."""

    def __init__(self, path: Path, mortality: Mortality) -> None:
        super().__init__(path)
        self._mortality = mortality
        self._queue: Any = _NoQueue(lambda request: self._commit_group(self._conn, [request]))
        self.writes = 0
        self.writes_until_full: float = FOREVER

    def open(self, models: Sequence[type[peewee.Model]] = ()) -> None:
        """Opens the writer's connection on this thread; `models` stay unbound, because they could belong to one device only."""
        self.connections.writer_thread = threading.get_ident()
        self._conn: sqlite3.Connection = self.connections._connect()
        self.connections.writer_thread = None

    def close(self) -> None:
        """What was not committed is gone, as after a loss of power."""
        self._closing = True
        self.connections.close_readers()
        self._conn.close()

    def write(self, work: Callable[[sqlite3.Connection], T], **options: Any) -> T:
        self.writes_until_full -= 1
        if self.writes_until_full == 0:
            self._conn.execute(f"PRAGMA max_page_count = {self._pages()}")
        result = super().write(self._mortal(work), **options)
        self.writes += 1
        self._mortality.spend()
        return result

    def free_space(self) -> None:
        """The disk is not full any more."""
        self.writes_until_full = FOREVER
        self._conn.execute(f"PRAGMA max_page_count = {PAGES_MAX}")

    def _pages(self) -> int:
        return int(self._conn.execute("PRAGMA page_count").fetchone()[0])

    def _mortal(self, work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
        def until_death(conn: sqlite3.Connection) -> T:
            endangered: Any = conn if self._mortality.moments_left == FOREVER else _MortalConnection(conn, self._mortality)
            result = work(endangered)
            self._mortality.spend()  # before the commit
            return result

        return until_death


class _NoQueue:
    """Takes the writer's place: what is queued is done."""

    def __init__(self, do: Callable[[Any], None]) -> None:
        self.put_nowait = do


class _MortalConnection:
    """A connection on which each statement takes a moment."""

    def __init__(self, conn: sqlite3.Connection, mortality: Mortality) -> None:
        self._conn, self._mortality = conn, mortality

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def execute(self, *arguments: Any) -> Any:
        self._mortality.spend()
        return self._conn.execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        self._mortality.spend()
        return self._conn.executemany(*arguments)
