"""Reading the outbox and the conflicts for people: what became of each operation, and which values lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import peewee as pw

from daemon.database import DeviceDatabase
from daemon.models.people import User
from daemon.models.sync import SyncConflict, SyncOperation
from daemon.queue.outbox import read_payload
from domain.errors import NotFound
from domain.ids import Id
from domain.operations import OperationKind, OperationState
from domain.registry import TABLES, ScopeKind, Table, tables_in


class ConflictPlace(NamedTuple):
    """Where a page of conflicts ends: the next begins behind it. Ordered newest first, by time and id."""

    created_at_ms: int
    id: str


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


def operation(database: DeviceDatabase, student_id: Id | None, op_id: Id) -> SyncOperation:
    """The operation of that id, the last of them where one was sent again by hand. Raises NotFound, also for another student's."""
    query = SyncOperation.select().where(SyncOperation.op_id == op_id)
    if student_id is not None:
        query = query.where(_on_rows_of(student_id))
    with database.read():
        found = query.order_by(SyncOperation.op_no.desc()).first()
    if found is None:
        raise NotFound("This device has written no such change.")
    return found  # type: ignore[no-any-return]  # peewee is not typed


def unsent(database: DeviceDatabase, after_op_no: int, limit: int) -> list[SyncOperation]:
    """At most `limit` operations that are not at school, queued or rejected, oldest first, behind `after_op_no`."""
    waiting = SyncOperation.state.in_([OperationState.PENDING.value, OperationState.REJECTED.value])
    query = SyncOperation.select().where(waiting & (SyncOperation.op_no > after_op_no))
    with database.read():
        return list(query.order_by(SyncOperation.op_no).limit(limit))


def conflicts(database: DeviceDatabase, student_id: Id | None, after: ConflictPlace | None, limit: int) -> list[SyncConflict]:
    """At most `limit` conflicts, newest first: those of a student, or with `student_id` None all that this device holds."""
    query = SyncConflict.select()
    if student_id is not None:
        query = query.where(SyncConflict.student_id == student_id)
    if after is not None:
        time, id_ = SyncConflict.created_at_ms, SyncConflict.id
        query = query.where((time < after.created_at_ms) | ((time == after.created_at_ms) & (id_ < after.id)))
    with database.read():
        return list(query.order_by(SyncConflict.created_at_ms.desc(), SyncConflict.id.desc()).limit(limit))


def answers_pending(conn: sqlite3.Connection) -> int:
    """Attempts not yet at school; inside the caller's read."""
    row = conn.execute("SELECT count(*) FROM sync_operations WHERE state = 'pending' AND table_name = 'question_attempts'").fetchone()
    return int(row[0])


def oldest_pending_ms(conn: sqlite3.Connection) -> int | None:
    """When the oldest change that is not at school was written, UTC ms by this machine's clock; inside the caller's read."""
    at_ms: int | None = conn.execute("SELECT min(wall_ms) FROM sync_operations WHERE state = 'pending'").fetchone()[0]
    return at_ms


def device_id(database: DeviceDatabase) -> str | None:
    """Who this device is; None before it is enrolled."""
    with database.read() as conn:
        row = conn.execute("SELECT device_id FROM identity").fetchone()
    return str(row[0]) if row else None


def students_of(database: DeviceDatabase, rows: Sequence[SyncOperation]) -> Mapping[int, str]:
    """Whose row each operation concerns, by op_no. An operation on a row that is not here any more may have none."""
    with database.read() as conn:
        found = {row.op_no: _student_of(conn, row) for row in rows}
    return {op_no: student for op_no, student in found.items() if student}


def names_of(database: DeviceDatabase, user_ids: Sequence[str]) -> Mapping[str, str]:
    """The names of users, as far as they are here."""
    with database.read():
        return {user.id: user.display_name for user in User.select().where(User.id.in_(sorted(set(user_ids))))}


def _student_of(conn: sqlite3.Connection, row: SyncOperation) -> str | None:
    table = TABLES.get(row.table_name)
    if table is None or table.scope is not ScopeKind.STUDENT:
        return None
    if table.scope_column == "id":
        return str(row.row_id)
    if row.kind == OperationKind.INSERT and (payload := read_payload(row.payload)) and (student := payload.get(str(table.scope_column))):
        return str(student)
    return _student_of_row(conn, table, row.row_id)


def _student_of_row(conn: sqlite3.Connection, table: Table, row_id: str) -> str | None:
    found = conn.execute(f"SELECT {table.scope_column} FROM {table.name} WHERE id = ?", (row_id,)).fetchone()
    return str(found[0]) if found else None


def _on_rows_of(student_id: Id) -> pw.SQL:
    """Whether an operation's row belongs to the student. Table and column names are the registry's."""
    tables = tables_in(ScopeKind.STUDENT)
    owned = (
        f"table_name = '{t.name}' AND EXISTS (SELECT 1 FROM {t.name} r WHERE r.id = row_id AND r.{t.scope_column} = ?)" for t in tables
    )
    return pw.SQL(f"({' OR '.join(owned)})", (student_id,) * len(tables))
