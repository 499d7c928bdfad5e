"""What comes late for an erased student is dropped: not applied, not kept as a dead letter, and noted in the audit log by number alone.

It comes from devices that were offline, by stick, or out of an older copy of a device's file. The device is told `erased`, and with its next pull the
order to erase the student too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from psycopg2.extras import execute_values

from cloud_api import audit
from cloud_api.devices.auth import Device
from cloud_api.sync.batch import Batch, DecodedRun, Refusal
from domain.ids import Id, is_id
from domain.operations import Rejection
from domain.registry import Policy

MESSAGE = "The student's data were erased at school."


def drop_erased(cursor: Any, device: Device, batch: Batch, runs: Sequence[DecodedRun], new_id: Callable[[], Id], now_ms: int) -> None:
    """Refuses every operation about an erased student, whatever else is wrong with it. One look into an index while nobody was erased."""
    cursor.execute("SELECT EXISTS (SELECT FROM erasures WHERE school_id = %s)", (device.school_id,))
    if not runs or not cursor.fetchone()[0]:
        return
    named = [(run, place, _subject(run, place)) for run in runs for place in range(run.count)]
    erased = _erased(cursor, device.school_id, {i for run, place, subject in named for i in (subject, run.row_ids[place]) if i})
    # A change of a row names the row only; its insertion may be in this very batch.
    dropped = Counter[str]()
    rows = dict[str, str]()
    for run, place, subject in named:
        row_id = run.row_ids[place]
        student = erased.get(subject or "") or erased.get(row_id) or rows.get(row_id)
        if student is None:
            continue
        rows[row_id] = student
        dropped[student] += 1
        batch.refusals[run.first_seq + place] = Refusal(Rejection.ERASED, MESSAGE)
    changing = {run.row_ids[place] for run, place, _ in named if _changes_without_name(run)}
    _remember(cursor, device.school_id, {row_id: student for row_id, student in rows.items() if row_id in changing})
    for student, count in sorted(dropped.items()):
        detail = {"operations": count}
        audit.record(cursor, device.school_id, new_id(), now_ms, f"device:{device.id}", "erasure.dropped", student, detail)


def _changes_without_name(run: DecodedRun) -> bool:
    """Whether later changes of the run's rows would not name their student."""
    table = run.table
    return table is not None and table.policy is Policy.LAST_WRITER and table.scope_column != "id"


def _subject(run: DecodedRun, place: int) -> Id | None:
    """The student that an operation names, in whatever way an id can be written; None where it names none."""
    column = run.fields.get("student_id")
    text = column[place] if column is not None else None
    plain = text.replace("-", "").lower() if isinstance(text, str) else ""
    return Id(plain) if is_id(plain) else None


def _erased(cursor: Any, school_id: str, candidates: set[str]) -> dict[str, str]:
    """Those of the ids that are an erased student's, or of a row of one: each with the student."""
    cursor.execute(
        "SELECT student_id, student_id FROM erasures WHERE school_id = %(school)s AND student_id = ANY(%(ids)s::uuid[])"
        " UNION ALL SELECT row_id, student_id FROM erased_rows WHERE school_id = %(school)s AND row_id = ANY(%(ids)s::uuid[])",
        {"school": school_id, "ids": sorted(candidates)},
    )
    return dict(cursor.fetchall())


def _remember(cursor: Any, school_id: str, rows: dict[str, str]) -> None:
    """A change of a dropped row may come in another batch."""
    if rows:
        execute_values(
            cursor,
            "INSERT INTO erased_rows (school_id, row_id, student_id) VALUES %s ON CONFLICT DO NOTHING",
            [(school_id, row_id, student) for row_id, student in sorted(rows.items())],
            page_size=len(rows),
        )
