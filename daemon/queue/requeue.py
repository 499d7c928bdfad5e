"""Rejected operations taken in hand: sent once more, at the end of the log, because a person says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from daemon import inbox
from daemon.recovery.journal_file import KeptOperation
from daemon.recovery.replay import replay
from domain.errors import Conflict, NotFound
from domain.operations import OperationState

# The code of a settled operation whose content went to the end of the log. Its place stays: a log has no gaps.
RETRIED = "retried"
# Operations of one call, so that no write transaction gets long.
RETRY_MAX = 500


@dataclass(frozen=True, slots=True)
class Retried:
    """The places of the operations at the end of the log, oldest first, and how many are rejected still."""

    op_nos: tuple[int, ...]
    left: int


def retry(conn: sqlite3.Connection, op_ids: Sequence[str] | None, now_ms: int) -> Retried:
    """Queues rejected operations again, those named or (None) all: the oldest first, at most RETRY_MAX. Inside the caller's write.

    Each keeps its id, its row, its content and the time at which it was written; the school's server forgets the dead letter once it takes the
    operation. Raises NotFound for an id that this device has not written, Conflict for one that is not rejected, and then changes nothing.
    """
    rejected = _rejected(conn, op_ids)
    if op_ids is not None:
        _demand(conn, set(op_ids) - {operation.op_id for operation in rejected})
    device_id = conn.execute("SELECT device_id FROM identity").fetchone()
    before = _last_op_no(conn)
    replay(conn, rejected, device_id[0] if device_id else "", now_ms)
    inbox.note_leftovers(conn)
    op_nos = tuple(range(before + 1, before + 1 + len(rejected)))
    conn.executemany(
        "UPDATE sync_operations SET state = 'synced', code = ?, message = ? WHERE op_no = ?",
        [(RETRIED, f"Sent again as operation {new}.", old.op_no) for old, new in zip(rejected, op_nos, strict=True)],
    )
    left = conn.execute("SELECT count(*) FROM sync_operations WHERE state = 'rejected'").fetchone()[0]
    return Retried(op_nos, int(left))


def _rejected(conn: sqlite3.Connection, op_ids: Sequence[str] | None) -> list[KeptOperation]:
    """Those that can be read: a damaged one would be set aside again (daemon/queue/unreadable.py)."""
    named = "" if op_ids is None else "AND op_id IN (SELECT value FROM json_each(?))"
    rows = conn.execute(
        "SELECT op_no, op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_id, payload, base"
        f" FROM sync_operations JOIN boots USING (boot_no) WHERE state = '{OperationState.REJECTED.value}' {named}"
        " AND iif(json_valid(payload), json_type(payload), '') = 'object' ORDER BY op_no LIMIT ?",
        (RETRY_MAX,) if op_ids is None else (msgspec.json.encode(op_ids).decode(), RETRY_MAX),
    )
    return [KeptOperation(*row) for row in rows]


def _demand(conn: sqlite3.Connection, missing: set[str]) -> None:
    for op_id in sorted(missing):
        if conn.execute("SELECT 1 FROM sync_operations WHERE op_id = ?", (op_id,)).fetchone():
            raise Conflict("Only a change that the school has refused, and that was not damaged, can be sent again.")
        raise NotFound("This device has written no such change.")


def _last_op_no(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'sync_operations'").fetchone()[0])
