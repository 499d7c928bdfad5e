"""The school's own changes of fields that devices change too: merged like theirs, so that nothing of a student's is overwritten in silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_api.database import Cursor
from cloud_api.publication import row_problems
from cloud_api.sync import feed
from cloud_api.sync.insert import Target
from cloud_api.sync.losers import Lost, keep_losers
from cloud_api.sync.merge import MADE_BY_UPDATE, SERVER_ORIGIN
from cloud_api.sync.rows import existing_ids, fetch_rows, upsert_rows
from cloud_api.sync.tombstones import deleted_rows
from domain.clock import HLC_COUNTER_BITS
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import Id
from domain.merge import SERVER_WRITER, FieldClock, Seen, merge_fields
from domain.registry import TABLES, Policy, Table


@dataclass(frozen=True, slots=True)
class FieldEdit:
    """The fields of one row of `table` (student_profiles, study_plan_items) that shall have other values.

    `seen` maps fields to the values that whoever edits had before the eyes. A device's value that is overwritten and was not among them is kept
    as a conflict; so is every one in a field that is missing there.
    """

    school_id: str
    table: str
    row_id: str
    fields: Mapping[str, Any]
    seen: Mapping[str, Any] = field(default_factory=dict)


def edit_fields(cursor: Cursor, ids: Callable[[], Id], edit: FieldEdit, now_ms: int) -> int:
    """Makes the values the school's word and returns their feed number. Inside the caller's transaction, after anything that may be refused.

    Raises InvalidInput for values that a device may not set either, NotFound for a row that is not there or was deleted.
    """
    table = _table(edit)
    number = feed.take(cursor, edit.school_id, 1)
    row = _row(cursor, table, edit)
    clocks: dict[str, FieldClock] = {name: (int(value), str(writer)) for name, (value, writer) in row["clocks"].items()}
    latest = max((clocks[name][0] for name in edit.fields if name in clocks), default=0)
    clock = (max(now_ms << HLC_COUNTER_BITS, latest + 1), SERVER_WRITER)
    base = {name: Seen(value, clocks.get(name)) for name, value in edit.seen.items()}
    merged = merge_fields(table, row, clocks, edit.fields, clock, base)
    changed = {**row, **merged.changed, "clocks": merged.clocks, "feed_no": number, "origin_no": SERVER_ORIGIN}
    upsert_rows(cursor, table, edit.school_id, [changed])
    student = row[table.scope_column or "id"]
    losers = [Lost(1, edit.row_id, student, loser.lost_clock[0], loser) for loser in merged.losers]
    # No device's push made the two meet: the school is named in its place.
    keep_losers(cursor, Target(edit.school_id, SERVER_ORIGIN, 1, number), edit.school_id, table.name, losers, ids, now_ms)
    return number


def _table(edit: FieldEdit) -> Table:
    table = TABLES.get(edit.table)
    if table is None or table.policy is not Policy.LAST_WRITER or not edit.fields or set(edit.fields) - table.updatable:
        raise InvalidInput([Problem(edit.table, "invalid_value", "Such fields are not changed one by one.")])
    if problems := [Problem(name, "invalid_value", f"{name} {words}") for name, words in row_problems(table, edit.fields)]:
        raise InvalidInput(problems)
    return table


def _row(cursor: Cursor, table: Table, edit: FieldEdit) -> dict[str, Any]:
    """The row as it is, locked; a new one where the first change makes it."""
    found = fetch_rows(cursor, table, edit.school_id, [edit.row_id], lock=True).get(edit.row_id)
    if found is not None:
        return found
    made_now = table.name in MADE_BY_UPDATE and existing_ids(cursor, "users", edit.school_id, [edit.row_id])
    if not made_now or deleted_rows(cursor, edit.school_id, table.name, [edit.row_id]):
        raise NotFound("The row is not there any more.")
    return {**dict.fromkeys(table.column_names), "id": edit.row_id, "clocks": {}, "_extra": None}
