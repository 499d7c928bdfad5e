"""What a device shows of a row whose fields it may change: the server's version with its own queued changes laid over it.

The clocks of a row say whose values it shows; what the writer of the next change has before its eyes is read from them. Every function takes the
connection of a `DeviceDatabase.write` that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from daemon.queue import outbox
from domain.merge import FieldClock, QueuedChange, visible_clocks, visible_row
from domain.registry import Kind, Table


def keep_shadow(conn: sqlite3.Connection, table: Table, row_id: str) -> None:
    """Before the first queued change of a row: sets the server's version aside, so that what comes down later is laid under our change."""
    names = ("feed_no", *table.column_names[1:])
    row = conn.execute(f"SELECT {', '.join(names)} FROM {table.name} WHERE id = ?", (row_id,)).fetchone()
    if row is None or outbox.queued_changes(conn, table.name, [row_id]):
        return
    data = msgspec.json.encode(dict(zip(names, row, strict=True))).decode()
    conn.execute("INSERT OR IGNORE INTO shadows (table_name, row_id, data) VALUES (?, ?, ?)", (table.name, row_id, data))


def shown_fields(
    conn: sqlite3.Connection, table: Table, row_id: str, fields: Iterable[str]
) -> tuple[dict[str, Any], dict[str, FieldClock]]:
    """What a row shows in some of its changeable fields, as JSON values, and the clocks of all of them; both empty without the row."""
    names = list(fields)
    row = conn.execute(f"SELECT clocks, {', '.join(names)} FROM {table.name} WHERE id = ?", (row_id,)).fetchone()
    if row is None:
        return {}, {}
    return {n: _json_value(table, n, v) for n, v in zip(names, row[1:], strict=True)}, read_clocks(row[0])


def show_fields(conn: sqlite3.Connection, table: Table, row_id: str, fields: Mapping[str, Any], clocks: Mapping[str, FieldClock]) -> None:
    """Has a row show changed fields, given as JSON values, with the clocks of all of its fields."""
    stored = {**stored_fields(table, fields), "clocks": msgspec.json.encode(clocks).decode()}
    assignments = ", ".join(f"{name} = ?" for name in stored)
    conn.execute(f"UPDATE {table.name} SET {assignments} WHERE id = ?", (*stored.values(), row_id))


def under_queued(table: Table, row: Mapping[str, Any], queued: Sequence[QueuedChange], writer: str) -> dict[str, Any]:
    """A row of the server's, as stored, under the changes that the device `writer` has queued for it."""
    shown = visible_row(row, [QueuedChange(stored_fields(table, change.fields), change.hlc) for change in queued])
    changed = [QueuedChange({n: v for n, v in change.fields.items() if n in table.updatable}, change.hlc) for change in queued]
    clocks = visible_clocks(read_clocks(row["clocks"]), changed, writer)
    return shown | {"clocks": msgspec.json.encode(clocks).decode()}


def read_clocks(text: str) -> dict[str, FieldClock]:
    """The column `clocks` of a row."""
    return {name: (int(value), str(writer)) for name, (value, writer) in msgspec.json.decode(text).items()}


def stored_fields(table: Table, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A payload's JSON values as they are stored in columns."""
    json_names = {c.name for c in table.columns if c.kind is Kind.JSON}
    return {n: msgspec.json.encode(v).decode() if n in json_names and v is not None else v for n, v in fields.items()}


def _json_value(table: Table, name: str, stored: Any) -> Any:
    return msgspec.json.decode(stored) if table.column(name).kind is Kind.JSON and stored is not None else stored
