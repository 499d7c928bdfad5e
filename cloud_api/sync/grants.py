"""Whether a device was allowed to write a student's rows when it wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloud_api.sync.batch import Batch, DecodedRun
from domain.ids import is_id
from domain.operations import Rejection

_FOREVER = 2**63 - 1

# Until when each student was granted to the device, directly or through a class, and now (null) if still so.
_GRANTED_UNTIL = """
SELECT subject, max(coalesce(until_ms, %(forever)s)) FROM (
    SELECT g.subject_id AS subject, g.ended_at_ms AS until_ms
      FROM device_grants g
     WHERE g.school_id = %(school)s AND g.device_id = %(device)s AND g.kind = 'student'
    UNION ALL
    SELECT m.user_id, g.ended_at_ms
      FROM device_grants g JOIN class_members m ON m.school_id = g.school_id AND m.class_id = g.subject_id AND m.role = 'student'
     WHERE g.school_id = %(school)s AND g.device_id = %(device)s AND g.kind = 'class'
    UNION ALL
    SELECT h.user_id, least(h.ended_at_ms, g.ended_at_ms)
      FROM device_grants g JOIN membership_history h ON h.school_id = g.school_id AND h.class_id = g.subject_id
     WHERE g.school_id = %(school)s AND g.device_id = %(device)s AND g.kind = 'class'
) AS granted WHERE subject = ANY(%(students)s::uuid[]) GROUP BY subject
"""


@dataclass(frozen=True, slots=True)
class Writer:
    """The device that wrote a batch. With `for_school` an administrator has the school take what it wrote, whatever the device may hold."""

    school_id: str
    device_id: str
    for_school: bool = False


def judge_by_grants(cursor: Any, batch: Batch, runs: Sequence[DecodedRun], writer: Writer) -> None:
    """Refuses operations on students whom the device was not allowed when it wrote them."""
    columns = [(run, _names_of(students_of(run))) for run in runs]
    until = _granted_until(cursor, writer, {s for _, students in columns for s in set(students)})
    if until is None:
        return
    for run, students in columns:
        for place, student in enumerate(students):
            _judge(batch, run, place, until.get(student))


def judge_stored_rows(cursor: Any, batch: Batch, run: DecodedRun, students: Mapping[int, str], writer: Writer) -> None:
    """The same for operations that do not name their student: `students` gives, by place in the run, the student of the stored row."""
    if writer.for_school:
        return
    until = _granted_until(cursor, writer, set(students.values()))
    if until is None:
        return
    for place, student in students.items():
        _judge(batch, run, place, until.get(student))


def _names_of(students: Sequence[Any]) -> Sequence[str]:
    """The students as text. What is none was refused by its type already, and need not even be hashable."""
    return students if set(map(type, students)) <= {str} else [s if isinstance(s, str) else "" for s in students]


def _judge(batch: Batch, run: DecodedRun, place: int, until_ms: int | None) -> None:
    if until_ms is None or run.written_ms(place) > until_ms:
        batch.refuse(run.first_seq + place, Rejection.NOT_GRANTED, "This device may not write for that student.")


def _granted_until(cursor: Any, writer: Writer, students: set[Any]) -> dict[str, int] | None:
    """Until when each of the students was granted; None when all of them are granted now, the common case."""
    wanted = [s for s in students if isinstance(s, str) and is_id(s)]
    if not wanted:
        return {} if students else None
    keys = {"school": writer.school_id, "device": writer.device_id, "students": wanted, "forever": _FOREVER}
    cursor.execute(_GRANTED_UNTIL, keys)
    until = {row[0]: int(row[1]) for row in cursor.fetchall()}
    return None if len(until) == len(students) and set(until.values()) == {_FOREVER} else until


def students_of(run: DecodedRun) -> Sequence[Any]:
    """The student of every operation of a run that names one itself; empty for a change of a row that is found by its id only."""
    table = run.table
    if table is None or not table.from_devices:
        return ()
    return run.row_ids if table.scope_column == "id" else run.fields.get(table.scope_column or "", ())
