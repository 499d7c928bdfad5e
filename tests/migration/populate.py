"""Rows for every table of a database, made from its schema: also of tables that a later migration brings."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

ROWS = 3
_HISTORY = "migration_history"
# Values that a CHECK or a program's own rules ask for.
_GIVEN: dict[str, tuple[Any, ...]] = {
    "one": (1, 1, 1),
    "role": ("student", "student", "teacher"),
    "correct": (1, 0, 1),
    "rebaselining": (0, 0, 0),
    "confidence": (1, 2, 3),
    "purpose": ("plan", "review", "free"),
    "state": ("pending", "synced", "rejected"),
    "kind": ("class", "student", "class"),
    "boot_no": (1, 2, 3),
}


def populate_device(connection: sqlite3.Connection) -> None:
    """Three rows in every table (one where only one may be), referring to each other by position; operations in all three states."""
    connection.execute("PRAGMA foreign_keys = OFF")
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name").fetchall()
    for (table,) in tables:
        if table == _HISTORY:
            continue
        columns = [(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({table})")]
        single = any(name == "one" for name, _ in columns)
        marks = ", ".join("?" * len(columns))
        for number in range(1 if single else ROWS):
            values = [_value(table, name, kind, number) for name, kind in columns]
            connection.execute(f"INSERT INTO {table} ({', '.join(name for name, _ in columns)}) VALUES ({marks})", values)
    if broken := connection.execute("PRAGMA foreign_key_check").fetchall():
        raise ValueError(f"rows without parents: {broken}")


def _value(table: str, column: str, kind: str, number: int) -> Any:
    if column in _GIVEN:
        return _GIVEN[column][number]
    if kind == "INTEGER":
        return 1_700_000_000_000 + number if column.endswith("_ms") else number + 1
    if kind == "REAL":
        return 0.25 * (number + 1)
    if column == "id" or column.endswith("_id"):
        return uuid.UUID(int=(0x0190_0000_0000_7000_8000 << 48) + number).hex
    return f'{table}.{column} {number} – it\'s, "quoted"'
