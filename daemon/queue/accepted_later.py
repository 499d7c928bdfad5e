"""Rejected operations that the school took after all: an administrator has corrected or replayed the dead letter.

Nobody tells the device so: it sees its row come down with the feed, and then the operation counts as settled. Every function takes the connection of
a `DeviceDatabase.write` that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from daemon.queue.outbox import read_payload
from daemon.queue.shown_rows import read_clocks
from domain.blocks import TableBlock, decode_column
from domain.merge import FieldClock
from domain.operations import OperationKind, OperationState, Rejection
from domain.registry import TABLES, Kind, Table

_IS_REJECTED = f"state = '{OperationState.REJECTED.value}'"


class _Refused(NamedTuple):
    """A rejected operation as far as it matters here."""

    op_no: int
    table: str
    row_id: str
    kind: str
    hlc: int
    payload: str
    code: str


def settle_accepted(conn: sqlite3.Connection, tables: Mapping[str, TableBlock]) -> int:
    """Settles the rejected operations whose content has come down with the page of `tables`, which must be applied. Returns how many.

    Costs one look into an index while nothing is rejected, which is the rule.
    """
    if not conn.execute(f"SELECT EXISTS (SELECT 1 FROM sync_operations WHERE {_IS_REJECTED})").fetchone()[0]:
        return 0
    rejected = conn.execute(
        "SELECT op_no, table_name, row_id, kind, hlc, payload, coalesce(code, '') FROM sync_operations"
        f" WHERE {_IS_REJECTED} AND row_id IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(_rows_of(tables)).decode(),),
    ).fetchall()
    device_id = conn.execute("SELECT device_id FROM identity").fetchone()
    accepted = [op.op_no for op in map(_Refused._make, rejected) if op.table in TABLES and device_id and _is_here(conn, op, device_id[0])]
    conn.executemany(
        "UPDATE sync_operations SET state = 'synced', code = NULL, message = NULL WHERE op_no = ?", [(op_no,) for op_no in accepted]
    )
    return len(accepted)


def _rows_of(tables: Mapping[str, TableBlock]) -> list[str]:
    """The rows that a page says something about, and that devices write."""
    ids: list[str] = []
    for name, block in tables.items():
        column = "row_id" if name == "sync_conflicts" else "id"
        if name == "sync_conflicts" or (name in TABLES and TABLES[name].from_devices):
            ids.extend(decode_column(Kind.ID, block.columns[column], block.n))
    return ids


def _is_here(conn: sqlite3.Connection, op: _Refused, device_id: str) -> bool:
    table = TABLES[op.table]
    row = conn.execute(f"SELECT * FROM {table.name} WHERE id = ? AND feed_no > 0", (op.row_id,))
    names = [column[0] for column in row.description]
    found, payload = row.fetchone(), read_payload(op.payload) or {}
    stored = {"clocks": "{}"} if found is None else dict(zip(names, found, strict=True))
    if op.kind == OperationKind.INSERT:
        return found is not None and _is_own_row(table, op, stored, payload, device_id)
    clocks = [_clocks(conn, op, name, stored) for name in payload if name in table.updatable]
    # A device gives each of its clock values to one operation, and the server takes an operation as a whole.
    if any(clock == (op.hlc, device_id) for of_field in clocks for clock, _ in of_field):
        return True
    values = [value for name, value in payload.items() if name in table.updatable]
    return bool(values) and all(
        any(_may_be_clamped(clock, op, device_id) and there == value for clock, there in of_field)
        for of_field, value in zip(clocks, values, strict=True)
    )


def _is_own_row(table: Table, op: _Refused, stored: Mapping[str, Any], payload: Mapping[str, Any], device_id: str) -> bool:
    """Whether the row under this id is the one that the operation made, perhaps with a corrected value; apps may have used the id twice."""
    if op.code == Rejection.IMMUTABLE:
        names = [name for name in payload if name in table.column_names]
        return all(table.column(name).agrees(_json_value(table, name, stored[name]), payload[name]) for name in names)
    return "device_id" not in table.column_names or stored["device_id"] == device_id


def _clocks(conn: sqlite3.Connection, op: _Refused, field: str, stored: Mapping[str, Any]) -> list[tuple[FieldClock, Any]]:
    """The clocks and values of a field that the server has: the one in the row, and those among the conflicts."""
    held = read_clocks(stored["clocks"]).get(field)
    found = [] if held is None else [(held, _json_value(TABLES[op.table], field, stored[field]))]
    lost = conn.execute(
        "SELECT lost_clock, lost_value FROM sync_conflicts WHERE table_name = ? AND row_id = ? AND field = ?", (op.table, op.row_id, field)
    )
    for clock, value in lost:
        hlc, writer = msgspec.json.decode(clock)
        found.append(((hlc, writer), msgspec.json.decode(value or "null")))
    return found


def _may_be_clamped(clock: FieldClock, op: _Refused, device_id: str) -> bool:
    """Whether a clock can be what the server made of the operation's, because it ran ahead."""
    return clock[1] == device_id and clock[0] < op.hlc


def _json_value(table: Table, name: str, stored: Any) -> Any:
    kind = table.column(name).kind
    if kind is Kind.BOOLEAN and stored is not None:
        return bool(stored)
    return msgspec.json.decode(stored) if kind is Kind.JSON and stored is not None else stored
