"""Savepoints: what PostgreSQL itself refuses is undone alone, and the rest of the batch goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg2

Item = TypeVar("Item")

# SQLSTATE classes that blame the data: "data exception" and "integrity constraint violation". Everything else (a lost connection, a
# deadlock, a time-out, no space) is no fault of an operation and is raised to whoever retries the batch.
_BLAMES_DATA = ("22", "23")


def accepted(cursor: Any, write: Callable[[], None]) -> bool:
    """Runs `write` behind a savepoint; False, with nothing changed, when PostgreSQL refuses its data."""
    cursor.execute("SAVEPOINT part")
    try:
        write()
    except psycopg2.Error as error:
        if (error.pgcode or "")[:2] not in _BLAMES_DATA:
            raise
        cursor.execute("ROLLBACK TO SAVEPOINT part")
        cursor.execute("RELEASE SAVEPOINT part")
        return False
    cursor.execute("RELEASE SAVEPOINT part")
    return True


def write_bisected(cursor: Any, items: Sequence[Item], write: Callable[[Sequence[Item]], None]) -> list[Item]:
    """Writes all items that PostgreSQL takes and returns those it refuses, halving any part that fails."""
    if not items or accepted(cursor, lambda: write(items)):
        return []
    if len(items) == 1:
        return [items[0]]
    middle = len(items) // 2
    return write_bisected(cursor, items[:middle], write) + write_bisected(cursor, items[middle:], write)
