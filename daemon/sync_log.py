"""Reading the outbox for people: what became of each operation. Payloads are not shown."""

from __future__ import annotations

import sqlite3

import peewee as pw

from daemon.database import DeviceDatabase
from daemon.models import SyncOperation
from domain.ids import Id
from domain.registry import ScopeKind, tables_in


def operations(
    database: DeviceDatabase, student_id: Id | None, state: str | None, before_op_no: int | None, limit: int
) -> list[SyncOperation]:
    """At most `limit` operations, newest first: those on a student's rows, or with `student_id` None those of the whole device."""
    query = SyncOperation.select()
    if student_id is not None:
        query = query.where(_on_rows_of(student_id))
    if state is not None:
        query = query.where(SyncOperation.state == state)
    if before_op_no is not None:
        query = query.where(SyncOperation.op_no < before_op_no)
    with database.read():
        return list(query.order_by(SyncOperation.op_no.desc()).limit(limit))


def answers_pending(conn: sqlite3.Connection) -> int:
    """Attempts not yet at school; inside the caller's read."""
    row = conn.execute("SELECT count(*) FROM sync_operations WHERE state = 'pending' AND table_name = 'question_attempts'").fetchone()
    return int(row[0])


def _on_rows_of(student_id: Id) -> pw.SQL:
    """Whether an operation's row belongs to the student. Table and column names are the registry's."""
    tables = tables_in(ScopeKind.STUDENT)
    owned = (
        f"table_name = '{t.name}' AND EXISTS (SELECT 1 FROM {t.name} r WHERE r.id = row_id AND r.{t.scope_column} = ?)" for t in tables
    )
    return pw.SQL(f"({' OR '.join(owned)})", (student_id,) * len(tables))
