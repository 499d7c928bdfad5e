"""Values that lost a merge, as an administrator sees them and brings them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.publication import lock_for_editing
from cloud_api.repair.field_edits import FieldEdit, edit_fields
from cloud_api.sync import feed
from cloud_api.sync.rows import fetch_rows
from domain.errors import Conflict, InvalidInput, NotFound
from domain.ids import IdSource
from domain.merge import FIRST_CLOCK, SERVER_WRITER, Rule
from domain.registry import TABLES, Policy

LIMIT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class LostValue:
    """One value that lost. `kept_by` and `lost_by` are `school`, `device:<id>`, or None where nobody had set the field."""

    id: str
    student_id: str
    username: str | None
    table: str
    row_id: str
    field: str
    base: Any
    kept: Any
    kept_by: str | None
    lost: Any
    lost_by: str | None
    rule: str
    created_at_ms: int
    restored_at_ms: int | None


_SELECT = """
SELECT c.id, c.student_id, u.username, c.table_name, c.row_id, c.field, c.base_value, c.kept_value, c.kept_clock, c.lost_value, c.lost_clock,
       c.rule, c.created_at_ms, c.restored_at_ms
  FROM sync_conflicts c LEFT JOIN users u ON u.school_id = c.school_id AND u.id = c.student_id
 WHERE c.school_id = %(school)s
"""


def list_conflicts(
    cursor: Cursor, school_id: str, *, student_id: str | None = None, restored: bool = False, limit: int = 100
) -> list[LostValue]:
    """At most `limit` conflicts, newest first: of one student or of all, without those that were restored unless asked for."""
    chosen = _SELECT + (" AND c.student_id = %(student)s" if student_id else "") + ("" if restored else " AND c.restored_at_ms IS NULL")
    cursor.execute(
        f"{chosen} ORDER BY c.created_at_ms DESC, c.id DESC LIMIT %(limit)s",
        {"school": school_id, "student": student_id, "limit": min(limit, LIMIT_MAX)},
    )
    return [_lost_value(*row) for row in cursor.fetchall()]


def find_conflict(cursor: Cursor, school_id: str, conflict_id: str) -> LostValue:
    """One conflict. Raises NotFound."""
    cursor.execute(f"{_SELECT} AND c.id = %(id)s", {"school": school_id, "id": conflict_id})
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such conflict; `carrel-cloud conflicts list` shows those there are.")
    return _lost_value(*row)


def present_value(cursor: Cursor, school_id: str, conflict: LostValue) -> Any:
    """What stands in the field now; None also where the row is gone."""
    table = TABLES.get(conflict.table)
    if table is None or conflict.field not in table.column_names:
        return None
    return fetch_rows(cursor, table, school_id, [conflict.row_id]).get(conflict.row_id, {}).get(conflict.field)


def restore(cursor: Cursor, ids: IdSource, school_id: str, conflict_id: str, now_ms: int) -> LostValue:
    """Makes a lost value the school's word; it goes to all devices, and what it replaces is a conflict in its turn, so that this can be undone.

    Raises NotFound, and Conflict for one that was restored before, for a deleted row, and for a value that does not fit any more.
    """
    lock_for_editing(cursor, school_id)
    conflict = find_conflict(cursor, school_id, conflict_id)
    _demand_restorable(conflict)
    edit = FieldEdit(school_id, conflict.table, conflict.row_id, {conflict.field: conflict.lost})
    try:
        edit_fields(cursor, ids.new, edit, now_ms)
    except NotFound as error:
        raise Conflict("The row was deleted, and stays so; nothing can be restored in it.") from error
    except InvalidInput as error:
        raise Conflict(f"The value does not fit any more: {error.message}.") from error
    cursor.execute(
        "UPDATE sync_conflicts SET restored_at_ms = %s, feed_no = %s WHERE school_id = %s AND id = %s",
        (now_ms, feed.take(cursor, school_id, 1), school_id, conflict_id),
    )
    detail = {"table": conflict.table, "row": conflict.row_id, "field": conflict.field}
    audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, "conflict.restored", conflict_id, detail)
    return find_conflict(cursor, school_id, conflict_id)


def _demand_restorable(conflict: LostValue) -> None:
    if conflict.restored_at_ms is not None:
        raise Conflict("This value was restored already.")
    if conflict.rule == Rule.DELETED:
        raise Conflict("The row was deleted, and stays so; nothing can be restored in it.")
    table = TABLES.get(conflict.table)
    if table is None or table.policy is not Policy.LAST_WRITER or conflict.field not in table.updatable:
        raise Conflict("The value does not fit any more: there is no such field.")


def _lost_value(
    id_: str,
    student_id: str,
    username: str | None,
    table: str,
    row_id: str,
    field: str,
    base: Any,
    kept: Any,
    kept_clock: Any,
    lost: Any,
    lost_clock: Any,
    rule: str,
    created_at_ms: int,
    restored_at_ms: int | None,
) -> LostValue:
    kept_by, lost_by = _writer(kept_clock), _writer(lost_clock)
    return LostValue(
        id_, student_id, username, table, row_id, field, base, kept, kept_by, lost, lost_by, rule, created_at_ms, restored_at_ms
    )


def _writer(clock: Any) -> str | None:
    if clock is None or tuple(clock) == FIRST_CLOCK:
        return None
    return "school" if clock[1] == SERVER_WRITER else f"device:{clock[1]}"
