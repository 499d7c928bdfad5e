"""Operations that were kept outside the database are put back into it: each at the end of the log, with the row that it made or changed.

Their ids stay, so whatever the server has already becomes a duplicate there; their places do not, so the caller begins a new incarnation.
Every function takes the connection of a transaction that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from daemon.queue import outbox, shown_rows
from daemon.recovery.journal_file import KeptOperation
from domain.operations import OperationKind, OperationState
from domain.registry import TABLES, Policy, Table

# Tables whose row comes into being with the first change of one of its fields.
_MADE_BY_UPDATE = ("student_profiles",)


def replay(conn: sqlite3.Connection, operations: Iterable[KeptOperation], device_id: str, now_ms: int) -> None:
    """Adds the operations, which must not be there yet, in their order; those that are settled count as settled now.

    A row that does not fit this version's schema is left to the next pull: its operation is what counts.
    """
    changed: dict[tuple[str, str], None] = {}
    for operation in operations:
        _append(conn, operation, now_ms)
        if operation.state != OperationState.PENDING or operation.table not in TABLES:
            continue
        if operation.kind == OperationKind.INSERT:
            _put_row(conn, TABLES[operation.table], operation, device_id)
        else:
            changed[operation.table, operation.row_id] = None
    for table, row_id in changed:
        _show(conn, TABLES[table], row_id, device_id)


def _append(conn: sqlite3.Connection, operation: KeptOperation, now_ms: int) -> None:
    settled_at_ms = None if operation.state == OperationState.PENDING else now_ms
    conn.execute("INSERT OR IGNORE INTO boots (boot_id) VALUES (?)", (operation.boot_id,))
    conn.execute(
        "INSERT INTO sync_operations (op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_no, payload, base,"
        " state, code, message, settled_at_ms) SELECT ?, ?, ?, ?, ?, ?, ?, ?, boot_no, ?, ?, ?, ?, ?, ? FROM boots WHERE boot_id = ?",
        (*operation[1:9], *operation[10:], settled_at_ms, operation.boot_id),
    )


def _put_row(conn: sqlite3.Connection, table: Table, operation: KeptOperation, device_id: str) -> None:
    """The row as its operation made it, unless the server's version of it is here."""
    payload = msgspec.json.decode(operation.payload)
    row: dict[str, Any] = {"id": operation.row_id}
    row |= shown_rows.stored_fields(table, {name: value for name, value in payload.items() if name in table.column_names})
    if table.policy is Policy.LAST_WRITER:
        row["clocks"] = msgspec.json.encode(dict.fromkeys(sorted(table.updatable), (operation.hlc, device_id))).decode()
    replaced = ", ".join(f"{name} = excluded.{name}" for name in row)
    try:
        conn.execute(
            f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
            f" ON CONFLICT (id) DO UPDATE SET {replaced} WHERE feed_no = 0",
            list(row.values()),
        )
    except sqlite3.IntegrityError:
        return
    if table.name == "question_attempts":
        conn.execute("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", (row["student_id"],))


def _show(conn: sqlite3.Connection, table: Table, row_id: str, device_id: str) -> None:
    """Lays the queued changes over a row that does not show all of them. A row that is not here gets them when it comes."""
    if table.name in _MADE_BY_UPDATE:
        conn.execute(f"INSERT OR IGNORE INTO {table.name} (id) VALUES (?)", (row_id,))
    names = ["feed_no", *table.column_names[1:], "_extra"]
    found = conn.execute(f"SELECT {', '.join(names)} FROM {table.name} WHERE id = ?", (row_id,)).fetchone()
    if found is None:
        return
    base = dict(zip(names, found, strict=True))
    queued = outbox.queued_changes(conn, table.name, [row_id])[row_id]
    if not _made_here(conn, row_id):
        base |= _shadow(conn, table, row_id, base)
    shown = shown_rows.under_queued(table, base, queued, device_id)
    changed = {name: shown[name] for name in (*sorted(table.updatable), "clocks")}
    assignments = ", ".join(f"{name} = ?" for name in changed)
    conn.execute(f"UPDATE {table.name} SET {assignments} WHERE id = ?", (*changed.values(), row_id))


def _made_here(conn: sqlite3.Connection, row_id: str) -> bool:
    """Whether the row's own insert is still queued: then there is no version of the server's to keep."""
    query = "SELECT 1 FROM sync_operations WHERE state = 'pending' AND row_id = ? AND kind = 'insert'"
    return conn.execute(query, (row_id,)).fetchone() is not None


def _shadow(conn: sqlite3.Connection, table: Table, row_id: str, row: dict[str, Any]) -> dict[str, Any]:
    """The server's version of the row: the shadow if there is one, else the row as it is, which becomes the shadow."""
    data = msgspec.json.encode(row).decode()
    conn.execute("INSERT OR IGNORE INTO shadows (table_name, row_id, data) VALUES (?, ?, ?)", (table.name, row_id, data))
    kept = conn.execute("SELECT data FROM shadows WHERE table_name = ? AND row_id = ?", (table.name, row_id)).fetchone()
    decoded: dict[str, Any] = msgspec.json.decode(kept[0])
    return decoded
