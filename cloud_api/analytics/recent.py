"""A student's latest attempts, as they are stored."""

from __future__ import annotations

from cloud_api.analytics.rows import RecentAttempt
from cloud_api.database import Cursor

ATTEMPTS_MAX = 50


def recent_attempts(cursor: Cursor, school_id: str, student_id: str) -> list[RecentAttempt]:
    """The latest ATTEMPTS_MAX, newest first, by the clock of the device that they were made on."""
    cursor.execute(
        "SELECT coalesce(a.corrected_at_ms, a.answered_at_ms), a.question_id, q.stem, a.answer, a.correct, a.active_ms, a.confidence, a.purpose"
        " FROM (SELECT * FROM question_attempts WHERE school_id = %s AND student_id = %s ORDER BY answered_at_ms DESC LIMIT %s) AS a"
        " JOIN questions q ON q.school_id = a.school_id AND q.id = a.question_id ORDER BY 1 DESC, a.id",
        (school_id, student_id, ATTEMPTS_MAX),
    )
    return [RecentAttempt(*row) for row in cursor.fetchall()]
