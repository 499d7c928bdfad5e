"""Students who left the school long ago, erased in their time: the retention of what students answered (docs/decisions/0020).

Each is a transaction of its own, and an erasure like any other: with its order to devices, its place in the register, its entry in the audit log.
"""

from __future__ import annotations

from functools import partial

from cloud_api.database import CloudDatabase, Cursor
from cloud_api.erasure.erase import erase_in
from cloud_api.publication import lock_for_editing
from domain.clock import Clock
from domain.ids import IdSource

# Students that one run erases; the next goes on.
STUDENTS_MAX = 1_000
REASON = "left"


def erase_leavers(database: CloudDatabase, clock: Clock, ids: IdSource, retired_before_ms: int) -> tuple[int, bool]:
    """Erases students who were retired before that moment, in UTC ms: how many, and whether there are more than one run takes."""
    with database.transaction(read_only=True) as cursor:
        due = _leavers(cursor, retired_before_ms)

    def erased(cursor: Cursor, school_id: str, student_id: str) -> bool:
        lock_for_editing(cursor, school_id)
        if student_id not in _leavers(cursor, retired_before_ms, student_id):
            return False  # who came back in this moment
        erase_in(cursor, ids, school_id, student_id, clock.now_ms(), reason=REASON)
        return True

    done = sum(
        database.retrying(partial(erased, school_id=school, student_id=student)) for student, school in list(due.items())[:STUDENTS_MAX]
    )
    return done, len(due) > STUDENTS_MAX


def _leavers(cursor: Cursor, retired_before_ms: int, student_id: str | None = None) -> dict[str, str]:
    """Student -> school: all who are due, or the one, if due."""
    cursor.execute(
        "SELECT id, school_id FROM users WHERE role = 'student' AND retired_at_ms < %s AND (%s::uuid IS NULL OR id = %s)"
        " ORDER BY retired_at_ms, id LIMIT %s",
        (retired_before_ms, student_id, student_id, STUDENTS_MAX + 1),
    )
    return dict(cursor.fetchall())
