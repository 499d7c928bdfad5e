"""The school's orders to erase a student, as they wait among the cursors of this device.

Every function takes the connection of a transaction that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from domain.wire import ErasureOrder

# An order that is to be carried out, by its student, and the last number of which all are.
_ORDERED, _CARRIED_OUT = "erasing:", "erasures"
_RAISE = "INSERT INTO cursors (scope, cursor) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET cursor = max(cursor, excluded.cursor)"


def note(conn: sqlite3.Connection, orders: Iterable[ErasureOrder]) -> None:
    """Notes the orders of a page, in the write that applies it."""
    conn.executemany(_RAISE, [(_ORDERED + order.student_id, order.feed_no) for order in orders])


def noted(conn: sqlite3.Connection) -> list[ErasureOrder]:
    """The orders that are to be carried out, in their order."""
    found = conn.execute("SELECT scope, cursor FROM cursors WHERE scope LIKE ? || '%' ORDER BY cursor", (_ORDERED,))
    return [ErasureOrder(scope.removeprefix(_ORDERED), number) for scope, number in found]


def conclude(conn: sqlite3.Connection, orders: Sequence[ErasureOrder]) -> None:
    """Notes that the orders, and with them all before, are carried out."""
    conn.executemany("DELETE FROM cursors WHERE scope = ?", [(_ORDERED + order.student_id,) for order in orders])
    conn.execute(_RAISE, (_CARRIED_OUT, max(order.feed_no for order in orders)))


def carried_out_through(conn: sqlite3.Connection) -> int:
    """The last order of which this one and all before are carried out; 0 if none."""
    row = conn.execute("SELECT cursor FROM cursors WHERE scope = ?", (_CARRIED_OUT,)).fetchone()
    return int(row[0]) if row else 0
