"""Attempts as the fold needs them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cloud_api.database import Cursor
from domain.learning.attempts import FoldedAttempt

_ATTEMPTS = """
SELECT a.student_id, a.id, coalesce(a.corrected_at_ms, a.answered_at_ms), a.device_id, a.question_id, q.concept_ids, a.correct
  FROM question_attempts a JOIN questions q ON q.school_id = a.school_id AND q.id = a.question_id
 WHERE a.school_id = %s AND a.student_id = ANY(%s::uuid[])
"""


def attempts_of(cursor: Cursor, school_id: str, students: Sequence[str]) -> dict[str, list[FoldedAttempt]]:
    """All attempts of these students, by student, in no order; nothing for those without any. Times are the corrected ones."""
    cursor.execute(_ATTEMPTS, (school_id, list(students)))
    by_student: dict[str, list[FoldedAttempt]] = defaultdict(list)
    concepts: dict[str, tuple[str, ...]] = {}
    for student, attempt_id, at_ms, device_id, question_id, concept_ids, correct in cursor:
        of_question = concepts.setdefault(question_id, tuple(concept_ids))
        by_student[student].append(FoldedAttempt(attempt_id, at_ms, device_id, question_id, of_question, correct))
    return dict(by_student)
