"""Rows for every table of a database, made from its schema: also of tables that a later migration brings.

Row n of every table has the id n of its kind and refers to the rows n of other tables.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from typing import Any

import psycopg2

ROWS = 3
PASSES_MAX = 20
_HISTORY = "migration_history"
# Values that a CHECK or a program's own rules ask for.
_GIVEN: dict[str, tuple[Any, ...]] = {
    "one": (1, 1, 1),
    "clocks": ("{}", '{"grade": [1, 0, 0]}', "{}"),
    "available_minutes": ("[60, 60, 0, 0, 0, 0, 0]", "{}", "[]"),
    "role": ("student", "student", "teacher"),
    "correct": (1, 0, 1),
    "rebaselining": ("no", "server_rows", "all_rows"),
    "confidence": (1, 2, 3),
    "purpose": ("plan", "review", "free"),
    "state": ("pending", "synced", "rejected"),
    "kind": ("class", "student", "class"),
    "boot_no": (1, 2, 3),
    "revocation": ("lock", "wipe", "wipe_discarding_unsent"),
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


def populate_cloud(connection: Any) -> None:
    """Three rows in every table, in an order that foreign keys allow; `connection` is psycopg2's."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_CLOUD_COLUMNS, (_HISTORY,))
        tables: dict[str, list[tuple[str, str]]] = {}
        for table, column, kind in cursor.fetchall():
            tables.setdefault(table, []).append((column, kind))
        waiting = {table: columns for table, columns in tables.items() if not any(name == "one" for name, _ in columns)}
        for _ in range(PASSES_MAX):
            waiting = {table: columns for table, columns in waiting.items() if not _filled(cursor, table, columns)}
    if waiting:
        raise ValueError(f"no order was found for {', '.join(waiting)}")


_CLOUD_COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.is_identity = 'NO' AND c.is_generated = 'NEVER' AND c.table_name <> %s
   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(c.table_name))
 ORDER BY c.table_name, c.ordinal_position
"""
_CLOUD_VALUES: dict[str, Any] = {
    "bytea": lambda text, number: bytes([number]) * 32,
    "jsonb": lambda text, number: json.dumps({"n": number}),
    "json": lambda text, number: json.dumps({"n": number}),
    "boolean": lambda text, number: number != 1,
    "double precision": lambda text, number: 0.25 * (number + 1),
}


def _filled(cursor: Any, table: str, columns: list[tuple[str, str]]) -> bool:
    names = ", ".join(name for name, _ in columns)
    cursor.execute("SAVEPOINT filling")
    try:
        for number in range(ROWS):
            values = [_cloud_value(table, name, kind, number) for name, kind in columns]
            cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(columns))})", values)
    except psycopg2.errors.ForeignKeyViolation:
        cursor.execute("ROLLBACK TO SAVEPOINT filling")
        return False
    return True


def _cloud_value(table: str, column: str, kind: str, number: int) -> Any:
    if column in _GIVEN and kind != "boolean":
        return _GIVEN[column][number]
    if kind in _CLOUD_VALUES:
        return _CLOUD_VALUES[kind](column, number)
    if kind == "uuid":
        return _value(table, "id", kind, number)
    if kind in ("integer", "smallint"):
        return number + 1
    return _value(table, column, "INTEGER" if kind == "bigint" else kind, number)


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
