"""The table `concept_mastery` on the server: the same pure fold as on a device (domain/learning/mastery.py), done again for students with news.

It is worked out when it is asked for, not during a push: `mastery_folds` says up to which feed number a student's attempts are folded, and
comparing that with their latest attempt costs one index look-up a student. Attempts and model being equal (cloud_api/learning/model.py), the rows equal
those of every device (DERIVED_EQUAL).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extras import execute_values

from cloud_api.database import Cursor
from cloud_api.learning.attempts import attempts_of
from cloud_api.learning.model import current_model
from domain.ids import Id
from domain.learning.mastery import StudentState, fold, mastery_rows
from domain.learning.model import MasteryModel

# Scores fall as time passes, within an hour by at most 0.004; rows older than that are computed again.
AGE_MAX_MS = 60 * 60 * 1000
ROWS_PER_STATEMENT = 1_000
# One refresh of a school at a time; the key's first half keeps it apart from other advisory locks.
_LOCK = 0x4D41

_STALE = """
SELECT s.id, latest.feed_no FROM unnest(%(students)s::uuid[]) AS s(id)
  CROSS JOIN LATERAL (SELECT feed_no FROM question_attempts a WHERE a.school_id = %(school)s AND a.student_id = s.id
                      ORDER BY a.feed_no DESC LIMIT 1) AS latest
  LEFT JOIN mastery_folds f ON f.school_id = %(school)s AND f.student_id = s.id
 WHERE f.feed_no IS DISTINCT FROM latest.feed_no OR f.model_version <> %(model)s
    OR (SELECT min(m.computed_at_ms) FROM concept_mastery m WHERE m.school_id = %(school)s AND m.student_id = s.id) < %(oldest)s
"""


@dataclass(frozen=True, slots=True)
class StudentMastery:
    """One student's score of one concept, as stored."""

    student_id: Id
    display_name: str
    concept_id: Id
    concept: str
    score: float
    level: str
    attempts: int
    last_attempt_at_ms: int


def refresh(cursor: Cursor, school_id: str, students: Sequence[str], now_ms: int) -> int:
    """Brings the rows of those of the students up to date that need it, set by set; returns how many did. In the caller's transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, school_id))
    model = current_model(cursor, school_id)
    keys = {"school": school_id, "students": list(students), "model": model.version, "oldest": now_ms - AGE_MAX_MS}
    cursor.execute(_STALE, keys)
    folded_through = dict(cursor.fetchall())
    if not folded_through:
        return 0
    stale = list(folded_through)
    rows = [
        (
            school_id, student, m.concept_id, m.score, m.evidence, m.attempts, m.right, m.last_attempt_at_ms, m.level.value,
            model.version, now_ms,
        )
        for student, state in folded(cursor, school_id, stale, model).items()
        for m in mastery_rows(state, now_ms)
    ]  # fmt: skip
    cursor.execute("DELETE FROM concept_mastery WHERE school_id = %s AND student_id = ANY(%s::uuid[])", (school_id, stale))
    execute_values(
        cursor,
        "INSERT INTO concept_mastery (school_id, student_id, concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms,"
        " level, model_version, computed_at_ms) VALUES %s",
        rows,
        page_size=ROWS_PER_STATEMENT,
    )
    execute_values(
        cursor,
        "INSERT INTO mastery_folds (school_id, student_id, feed_no, model_version) VALUES %s ON CONFLICT (school_id, student_id)"
        " DO UPDATE SET feed_no = excluded.feed_no, model_version = excluded.model_version",
        [(school_id, student, feed_no, model.version) for student, feed_no in folded_through.items()],
    )
    return len(stale)


def folded(cursor: Cursor, school_id: str, students: Sequence[str], model: MasteryModel) -> dict[str, StudentState]:
    """The students folded with a model, for predictions and explanations; those without attempts are left out."""
    by_student = attempts_of(cursor, school_id, students)
    return {student: fold(attempts, model.rates, model.weights) for student, attempts in by_student.items()}


def of_class(cursor: Cursor, school_id: str, class_id: str, now_ms: int) -> list[StudentMastery]:
    """The scores of a class's students, refreshed where they need it, by name and concept."""
    cursor.execute("SELECT user_id FROM class_members WHERE school_id = %s AND class_id = %s AND role = 'student'", (school_id, class_id))
    students = [row[0] for row in cursor.fetchall()]
    refresh(cursor, school_id, students, now_ms)
    cursor.execute(
        "SELECT m.student_id, u.display_name, m.concept_id, c.title, m.score, m.level, m.attempts, m.last_attempt_at_ms"
        " FROM concept_mastery m JOIN users u ON u.school_id = m.school_id AND u.id = m.student_id"
        " JOIN concepts c ON c.school_id = m.school_id AND c.id = m.concept_id"
        " WHERE m.school_id = %s AND m.student_id = ANY(%s::uuid[]) ORDER BY u.display_name, m.student_id, c.title, m.concept_id",
        (school_id, students),
    )
    return [StudentMastery(*row) for row in cursor.fetchall()]
