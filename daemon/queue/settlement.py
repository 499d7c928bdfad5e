"""What becomes of operations that the server has answered: all of it in one transaction of the caller's."""

from __future__ import annotations

import sqlite3

from daemon.erasure import answers
from daemon.queue import outbox
from domain.device_clock import Correction, corrected_ms
from domain.operations import Verdict
from domain.registry import TABLES, Policy, Table
from domain.wire import PushAnswer


def settle(conn: sqlite3.Connection, place: outbox.Progress, after: outbox.Progress, answer: PushAnswer, now_ms: int) -> int | None:
    """Marks the operations between two places of the log as synced, or rejected where a verdict says so; moves the log's place; gives rows
    their feed numbers and attempts their corrected times. Returns how many were rejected. All of it in the caller's one transaction.

    When an operation was settled is remembered by the server's clock: how long it is kept must not hang on this machine's.

    None, with nothing changed, when the log is not at `place` any more: it began anew while the answer was on its way.
    """
    first, last = place.acked_op_no + 1, after.acked_op_no
    moved = conn.execute(
        "UPDATE sync_progress SET acked_op_no = ?, chain = ?, last_push_ms = ? WHERE incarnation = ? AND acked_op_no = ?",
        (last, after.chain.hex(), now_ms, place.incarnation, place.acked_op_no),
    ).rowcount
    if not moved:
        return None
    outbox.note_durable(conn, answer.durable_through)
    settled_ms = answer.server_time_ms
    rejected = [v for v in answer.verdicts if v.verdict == Verdict.REJECTED]
    # Whatever an earlier life of the log was told of them.
    conn.execute(
        "UPDATE sync_operations SET state = 'synced', code = NULL, message = NULL, settled_at_ms = ? WHERE op_no BETWEEN ? AND ?",
        (settled_ms, first, last),
    )
    conn.executemany(
        "UPDATE sync_operations SET state = 'rejected', code = ?, message = ?, settled_at_ms = ? WHERE op_no = ? AND op_no BETWEEN ? AND ?",
        [(v.code, v.message, settled_ms, place.seq_base + v.seq, first, last) for v in rejected],
    )
    told = sum(last_seq - first_seq + 1 for first_seq, last_seq, _ in answer.feed)
    numbered = sum(
        _number_rows(conn, place.seq_base + first_seq, place.seq_base + last_seq, feed_no) for first_seq, last_seq, feed_no in answer.feed
    )
    if numbered < told:
        outbox.note_absent(conn)
    if answer.feed:
        answers.note_settled(conn, min(feed_no for _, _, feed_no in answer.feed))
    for first_seq, last_seq, delta_ms, doubtful in answer.corrections:
        _correct_times(conn, place.seq_base + first_seq, place.seq_base + last_seq, Correction(delta_ms, doubtful))
    return len(rejected)


# Rows that only this device can have written last learn their feed number here; all others come back with the next pull.
_APPEND_ONLY: tuple[Table, ...] = tuple(t for t in TABLES.values() if t.policy is Policy.APPEND_ONLY)


def _number_rows(conn: sqlite3.Connection, first_op_no: int, last_op_no: int, feed_no: int) -> int:
    """How many rows there were to be given a number."""
    return sum(
        conn.execute(
            f"UPDATE {table.name} SET feed_no = ? + o.op_no - ? FROM sync_operations o"
            f" WHERE o.op_no BETWEEN ? AND ? AND o.table_name = ? AND {table.name}.id = o.row_id",
            (feed_no, first_op_no, first_op_no, last_op_no, table.name),
        ).rowcount
        for table in _APPEND_ONLY
    )


def _correct_times(conn: sqlite3.Connection, first_op_no: int, last_op_no: int, correction: Correction) -> None:
    """Stores what the server found to be wrong with the times of attempts; mastery is to be computed anew, by the corrected ones."""
    rows = conn.execute(
        "SELECT a.id, a.student_id, a.answered_at_ms FROM sync_operations o JOIN question_attempts a ON a.id = o.row_id"
        " WHERE o.op_no BETWEEN ? AND ? AND o.table_name = 'question_attempts'",
        (first_op_no, last_op_no),
    ).fetchall()
    conn.executemany(
        "UPDATE question_attempts SET corrected_at_ms = ?, time_doubtful = ? WHERE id = ?",
        [(corrected_ms(answered_ms, correction), correction.doubtful or None, id_) for id_, _, answered_ms in rows],
    )
    conn.executemany("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", {(student,) for _, student, _ in rows})
