"""Queued operations that no server can read, because they were damaged in the file or by a mistake in this program.

Each spoils every request and every bundle that it is in. They are set aside: a void takes their place in the log, and they show as rejected.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import msgspec

from daemon.queue import outbox
from domain.ids import is_id
from domain.operations import Operation, OperationKind

# The queue is looked through in portions of this size.
_OPERATIONS_MAX, _BYTES_MAX = 2_000, 1024 * 1024


def is_readable(operation: Operation) -> bool:
    """Whether a server can read the operation, and write the same canonical bytes from what it has read; whether it takes it is another matter."""
    if not (is_id(operation.op_id) and is_id(operation.row_id)):
        return False
    if operation.kind == OperationKind.INSERT and operation.op_id != operation.row_id:
        return False
    if not all(_legible(text) == text for text in (operation.table, operation.kind)):
        return False
    if operation.base is not None and outbox.read_payload(operation.base) is None:
        return False
    payload = outbox.read_payload(operation.payload)
    return payload is not None and msgspec.json.encode(payload).decode() == operation.payload


def unreadable(conn: sqlite3.Connection) -> list[Operation]:
    """Those in the queue. Reads all of it; in the caller's transaction."""
    found: list[Operation] = []
    place = outbox.progress(conn)
    while place and (batch := outbox.next_operations(conn, place, _OPERATIONS_MAX, _BYTES_MAX)):
        found.extend(op for op in batch if not is_readable(op))
        place = replace(place, acked_op_no=place.seq_base + batch[-1].seq)
    return found


def set_aside_unreadable(conn: sqlite3.Connection) -> int:
    """Gives up sending them; returns how many there are. Inside the caller's write.

    One of which only the base is damaged goes without it: its change is whole (docs/protocol.md, "Conflicts").
    """
    if (place := outbox.progress(conn)) is None:
        return 0
    found = unreadable(conn)
    for operation in found:
        if is_readable(operation._replace(base=None)):
            conn.execute("UPDATE sync_operations SET base = NULL WHERE op_no = ?", (place.seq_base + operation.seq,))
            continue
        _make_legible(conn, place.seq_base + operation.seq, operation)
        outbox.set_aside(conn, place, operation.seq, "No server can read it.")
    return len(found)


def _make_legible(conn: sqlite3.Connection, op_no: int, operation: Operation) -> None:
    """Texts that are no UTF-8 become ones that can be shown and kept beside (daemon/recovery/journal.py), and that nobody takes for whole."""
    texts = {"op_id": operation.op_id, "table_name": operation.table, "row_id": operation.row_id, "kind": operation.kind}
    texts |= {"payload": operation.payload} | ({} if operation.base is None else {"base": operation.base})
    for name, text in texts.items():
        if (legible := _legible(text)) != text:
            conn.execute(f"UPDATE sync_operations SET {name} = ? WHERE op_no = ?", (f"damaged: {legible}", op_no))


def _legible(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
