"""The difficulty snapshot of a school: counted from all its attempts, published when it says something new."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.learning.publishing import publish_newest
from cloud_api.publication import lock_for_editing
from domain.ids import IdSource
from domain.learning.attempts import concept_set
from domain.learning.difficulty import DifficultyTable, snapshot
from domain.learning.model import newest_snapshot
from domain.learning.rates import Counts

# What fits a row that devices pull: questions, and sets of concepts, with the most answers. The others are few answers each, and worth little.
QUESTIONS_MAX, CONCEPT_SETS_MAX = 20_000, 5_000
# A published table is on every device, and no figure of it may be one student's (docs/decisions/0018): a question that fewer have answered is counted in
# with the others of its kind, and where fewer have answered all of these, not at all. The same number as for shares of a class.
STUDENTS_MIN = 5
# A snapshot is published when there are so many more answers than in the one in force: each has every student folded anew, on every device.
GROWTH_SHARE_MIN = 0.02
_K = TypeVar("_K")

_COUNTS = """
WITH of_students AS (
     SELECT question_id, student_id, count(*) FILTER (WHERE correct) AS correct, count(*) AS answered
       FROM question_attempts WHERE school_id = %(school)s GROUP BY question_id, student_id),
 of_questions AS (
     SELECT question_id, sum(correct)::bigint AS correct, sum(answered)::bigint AS answered, count(*) >= %(students_min)s AS by_many
       FROM of_students GROUP BY question_id)
SELECT q.id, q.concept_ids, c.correct, c.answered
  FROM of_questions c JOIN questions q ON q.school_id = %(school)s AND q.id = c.question_id WHERE c.by_many
 UNION ALL
SELECT NULL, q.concept_ids, sum(s.correct)::bigint, sum(s.answered)::bigint
  FROM of_questions c JOIN of_students s USING (question_id) JOIN questions q ON q.school_id = %(school)s AND q.id = c.question_id
 WHERE NOT c.by_many GROUP BY q.concept_ids HAVING count(DISTINCT s.student_id) >= %(students_min)s
"""


@dataclass(frozen=True, slots=True)
class Published:
    """What was counted: attempts, and the questions that are named; `id` names the snapshot. Not `new` when it says hardly more than the one in force."""

    id: str
    attempts: int
    questions: int
    new: bool


def publish_snapshot(cursor: Cursor, ids: IdSource, school_id: str, now_ms: int) -> Published:
    """Counts and publishes, in the caller's transaction, whose last change it is. A million attempts take PostgreSQL some seconds."""
    lock_for_editing(cursor, school_id)
    table = count_answers(cursor, school_id)
    counted = snapshot(table)
    cursor.execute(
        "SELECT content FROM difficulty_snapshots WHERE school_id = %s ORDER BY published_at_ms DESC, id DESC LIMIT 1", (school_id,)
    )
    in_force = newest_snapshot(row[0] for row in cursor.fetchall())
    new = table.total.answered > (1 + GROWTH_SHARE_MIN) * in_force.answered if in_force else table.total.answered > 0
    published = Published(counted.id, table.total.answered, len(table.by_question), new)
    if new:
        detail = {"snapshot": counted.id, "attempts": published.attempts}
        audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, "difficulty.published", detail=detail)
        publish_newest(cursor, school_id, "difficulty_snapshots", {"content": counted.encoded.decode()}, now_ms)
    return published


def count_answers(cursor: Cursor, school_id: str) -> DifficultyTable:
    """Right answers and all answers by question and by set of concepts, as they are stored now; of at least STUDENTS_MIN students each."""
    cursor.execute(_COUNTS, {"school": school_id, "students_min": STUDENTS_MIN})
    table = DifficultyTable()
    for question_id, concept_ids, right, answered in cursor.fetchall():
        table.add(question_id, concept_set(concept_ids), Counts(right, answered))
    return replace(
        table,
        by_question=_most_answered(table.by_question, QUESTIONS_MAX),
        by_concepts=_most_answered(table.by_concepts, CONCEPT_SETS_MAX),
    )


def _most_answered(counts: Mapping[_K, Counts], limit: int) -> dict[_K, Counts]:
    """At most `limit` entries, those with the most answers."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1].answered, str(item[0])))[:limit])
