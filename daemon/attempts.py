"""Reading attempts: pages for their student, and all of them for the fold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from daemon.database import DeviceDatabase
from daemon.models import QuestionAttempt
from domain.ids import Id
from domain.mastery import FoldedAttempt


class Place(NamedTuple):
    """Where a page of attempts ends: the next begins behind it. Ordered newest first, by time and id."""

    answered_at_ms: int
    id: str


def page_of(database: DeviceDatabase, student_id: Id, after: Place | None, limit: int) -> list[QuestionAttempt]:
    """At most `limit` of a student's attempts, newest first, beginning behind `after`."""
    query = QuestionAttempt.select().where(QuestionAttempt.student_id == student_id)
    if after is not None:
        time, id_ = QuestionAttempt.answered_at_ms, QuestionAttempt.id
        query = query.where((time < after.answered_at_ms) | ((time == after.answered_at_ms) & (id_ < after.id)))
    newest_first = query.order_by(QuestionAttempt.answered_at_ms.desc(), QuestionAttempt.id.desc())
    with database.read():
        return list(newest_first.limit(limit))


def folded_attempts(conn: sqlite3.Connection, student_id: Id) -> Iterator[FoldedAttempt]:
    """All attempts of a student as the fold needs them, one by one in canonical order, by corrected time; inside the caller's read or write.

    An attempt at a question that is not here (yet) counts for the student as a whole and for no concept.
    """
    concepts = _concepts_of_questions(conn, student_id)
    rows = conn.execute(
        "SELECT id, coalesce(corrected_at_ms, answered_at_ms) AS at_ms, device_id, question_id, correct FROM question_attempts"
        " WHERE student_id = ? ORDER BY at_ms, device_id, id",
        (student_id,),
    )
    for id_, at_ms, device, question, correct in rows:
        yield FoldedAttempt(id_, at_ms, device, question, concepts.get(question, ()), correct == 1)


def _concepts_of_questions(conn: sqlite3.Connection, student_id: Id) -> dict[str, tuple[str, ...]]:
    """The concepts of each question that the student has answered."""
    rows = conn.execute(
        "SELECT id, concept_ids FROM questions WHERE id IN (SELECT question_id FROM question_attempts WHERE student_id = ?)", (student_id,)
    )
    return {id_: tuple(msgspec.json.decode(concept_ids)) for id_, concept_ids in rows}
