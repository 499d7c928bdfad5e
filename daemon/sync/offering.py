"""Answers that the school has lost and of which this device has a copy, offered to it as their writer would: under their own ids.

When a server is restored, each device sends again what it has written itself. What its writer keeps no more, or a writer that is gone, may still
be on another device of the student or of the class. Every row that did not come back when everything was pulled anew, and that no operation here
speaks of, is queued as an insert. It is judged like any other by grants, deletions and erasures; whoever sends it as well, it is there once.

A device that was away for long may have copies of answers that were deleted meanwhile, and a restored server may have forgotten the deletion: such a
device offers nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from daemon import inbox
from daemon.queue.outbox import NewOperation, Outbox
from domain.clock import Clock
from domain.operations import OperationKind
from domain.registry import TABLES, Kind, ScopeKind

_TABLE = TABLES["question_attempts"]
_COLUMNS = [column for column in _TABLE.columns[1:] if not column.set_by_server]
# Stands among the cursors from the moment when the server is known to have lost something until everything was offered.
_OFFERING = "offering:"
# Rows that are queued at a time, so that no write transaction gets long.
OFFERED_MAX = 5_000


@dataclass(frozen=True, slots=True)
class _Stamp:
    """The clock that the writer of a row would have now: as wrong as it was then."""

    clock: Clock
    wall_ms: int

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.clock.monotonic_ms()


def plan(conn: sqlite3.Connection) -> None:
    """The server has lost something: once everything was pulled anew, what did not come is offered."""
    conn.execute("INSERT OR IGNORE INTO cursors (scope, cursor) VALUES (?, 0)", (_OFFERING,))


def is_planned(conn: sqlite3.Connection) -> bool:
    """Whether something may be to be offered."""
    return conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (_OFFERING,)).fetchone() is not None


def offer(conn: sqlite3.Connection, clock: Clock, server_now_ms: int) -> int:
    """Queues answers that did not come with a pull that has just ended, OFFERED_MAX at most; returns how many. Inside the caller's write."""
    if not is_planned(conn) or inbox.is_rebaselining(conn):
        return 0
    rows = _unknown_at_school(conn)
    for late_ms, alike in groupby(rows, key=_late_ms):
        # From this stamp the server works out the correction of the row's time that was made when it came to school first.
        outbox = Outbox(_Stamp(clock, server_now_ms - late_ms))
        outbox.append(conn, [NewOperation(_TABLE.name, row["id"], OperationKind.INSERT, _payload(row)) for row in alike])
    conn.executemany(
        "UPDATE question_attempts SET corrected_at_ms = NULL, time_doubtful = NULL WHERE id = ?", [(row["id"],) for row in rows]
    )
    conn.executemany("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", {(row["student_id"],) for row in rows})
    if len(rows) < OFFERED_MAX:
        conn.execute("DELETE FROM cursors WHERE scope = ?", (_OFFERING,))
    return len(rows)


def _unknown_at_school(conn: sqlite3.Connection) -> list[dict[str, Any]]:
    """Answers of students whom this device follows, that the server has not numbered, and of which nothing stands in the log; by correction."""
    names = [*_TABLE.column_names, "_extra"]
    found = conn.execute(
        f"SELECT {', '.join(names)} FROM question_attempts WHERE feed_no = 0 AND id NOT IN (SELECT row_id FROM sync_operations)"
        f" AND '{ScopeKind.STUDENT}:' || student_id IN (SELECT scope FROM cursors) ORDER BY coalesce(corrected_at_ms - answered_at_ms, 0), id LIMIT ?",
        (OFFERED_MAX,),
    )
    return [dict(zip(names, row, strict=True)) for row in found]


def _late_ms(row: Mapping[str, Any]) -> int:
    corrected_ms = row["corrected_at_ms"]
    return 0 if corrected_ms is None else int(corrected_ms - row["answered_at_ms"])


def _payload(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as its writer sent it, with the fields that a later version added."""
    extra = msgspec.json.decode(row["_extra"]) if row["_extra"] else {}
    return {column.name: _as_sent(column.kind, row[column.name]) for column in _COLUMNS} | extra


def _as_sent(kind: Kind, value: Any) -> Any:
    return bool(value) if kind is Kind.BOOLEAN and value is not None else value
