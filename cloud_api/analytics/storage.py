"""The table `student_figures`: one row a student, with the feed number up to which the student's attempts are counted in.

A student's row is written by whoever holds that student's lock, for the length of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from psycopg2.errors import ForeignKeyViolation
from psycopg2.extras import execute_values

from cloud_api.analytics.documents import Documents, read_documents, write_documents
from cloud_api.analytics.engine import FORM, Engine
from cloud_api.database import Cursor
from domain.errors import Unavailable
from domain.learning.analytics.student import Answer, StudentFigures
from domain.learning.attempts import FoldedAttempt

# Attempts fetched at a time: a long life costs no more memory than a short one.
FETCH_ROWS = 5_000
# Rows of a statement that writes.
SET_ROWS_MAX = 200
# The key's first half keeps the locks apart from other advisory ones.
_LOCK = 0x4346

# `after` is worked out first: under row-level security COALESCE counts as a function that may leak, and would keep the comparison out of the index.
_NEWS = """
WITH s AS MATERIALIZED (
     SELECT wanted.id, coalesce(f.feed_no, 0) AS after, coalesce(f.answers, 0) AS counted, coalesce(f.engine <> %(engine)s, true) AS anew,
            coalesce(f.engine <> %(engine)s OR f.questions_no < %(questions_no)s, false) AS stale
       FROM unnest(%(students)s::uuid[]) AS wanted(id)
       LEFT JOIN student_figures f ON f.school_id = %(school)s AND f.student_id = wanted.id)
SELECT s.id, new.answers, s.counted, s.anew
  FROM s
 CROSS JOIN LATERAL (
       SELECT count(*) AS answers FROM (
              SELECT FROM question_attempts a
               WHERE a.school_id = %(school)s AND a.student_id = s.id AND a.feed_no > s.after
               LIMIT %(most)s) AS counted) AS new
 WHERE new.answers > 0 OR s.stale
 ORDER BY s.id
"""

_ANSWERS = """
DECLARE answers_to_count NO SCROLL CURSOR FOR
SELECT a.student_id, a.feed_no, a.id, coalesce(a.corrected_at_ms, a.answered_at_ms), a.device_id, a.question_id, q.concept_ids, a.correct,
       a.answer, a.active_ms, a.confidence,
       a.feed_no <= (SELECT coalesce(max(g.through_no), 0) FROM answers_let_go g WHERE g.school_id = %(school)s)
  FROM unnest(%(students)s::uuid[], %(after)s::bigint[]) AS s(id, after)
  JOIN question_attempts a ON a.school_id = %(school)s AND a.student_id = s.id AND a.feed_no > s.after
  JOIN questions q ON q.school_id = a.school_id AND q.id = a.question_id
 ORDER BY a.student_id, 4, a.device_id, a.id
"""


_WRITE = """
INSERT INTO student_figures (school_id, student_id, feed_no, questions_no, engine, answers, mastery, days, questions) VALUES %s
ON CONFLICT (school_id, student_id) DO UPDATE SET feed_no = excluded.feed_no, questions_no = excluded.questions_no, engine = excluded.engine,
   answers = excluded.answers, mastery = excluded.mastery, days = excluded.days, questions = excluded.questions
"""


class News(NamedTuple):
    """A student whose row is behind: answers not counted in (up to NEWS_ANSWERS_MAX), answers counted; `anew`: all must be counted again."""

    student_id: str
    new: int
    counted: int
    anew: bool

    @property
    def cost(self) -> int:
        """Answers to be folded, unless some of them come late."""
        return self.new + (self.counted if self.anew else 0)


# More are not told apart.
NEWS_ANSWERS_MAX = 100_000


class Stored(NamedTuple):
    """A student's row. `feed_no` and `questions_no` are the last attempt and the last change of a question that it knows of."""

    feed_no: int
    questions_no: int
    engine: str
    answers: int
    figures: StudentFigures


class NumberedAnswer(NamedTuple):
    """An answer and its attempt's feed number."""

    feed_no: int
    answer: Answer


def news(cursor: Cursor, school_id: str, students: Sequence[str], engine: Engine, questions_no: int) -> list[News]:
    """Those of the students whose rows are behind; one statement."""
    keys = {
        "school": school_id,
        "students": list(students),
        "engine": engine.version,
        "questions_no": questions_no,
        "most": NEWS_ANSWERS_MAX,
    }
    cursor.execute(_NEWS, keys)
    return [News(*row) for row in cursor.fetchall()]


def last_question_change(cursor: Cursor, school_id: str) -> int:
    """The feed number of the latest change of any question."""
    cursor.execute("SELECT feed_no FROM questions WHERE school_id = %s ORDER BY feed_no DESC LIMIT 1", (school_id,))
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def questions_changed_after(cursor: Cursor, school_id: str, feed_no: int) -> dict[str, list[str]]:
    """Questions that changed, with the concepts that they are about now."""
    cursor.execute("SELECT id, concept_ids FROM questions WHERE school_id = %s AND feed_no > %s", (school_id, feed_no))
    return dict(cursor.fetchall())


def heads(cursor: Cursor) -> dict[str, int]:
    """The feed number of the latest change of every school."""
    cursor.execute("SELECT id, head FROM schools ORDER BY id")
    return dict(cursor.fetchall())


def students_of(cursor: Cursor, school_id: str) -> list[str]:
    """Every student of a school."""
    cursor.execute("SELECT id FROM users WHERE school_id = %s AND role = 'student' ORDER BY id", (school_id,))
    return [row[0] for row in cursor.fetchall()]


def lock(cursor: Cursor, school_id: str, students: Sequence[str]) -> list[str]:
    """Locks the rows of students until the transaction ends, but for those that somebody else is counting now; returns the locked."""
    cursor.execute(
        "SELECT s.id FROM unnest(%s::uuid[]) AS s(id) WHERE pg_try_advisory_xact_lock(%s, hashtext(%s || s.id::text))",
        (list(students), _LOCK, school_id),
    )
    return [row[0] for row in cursor.fetchall()]


def read(cursor: Cursor, school_id: str, students: Sequence[str], engine: Engine, *, questions: bool = True) -> dict[str, Stored]:
    """The rows of students, of those who have one; with their answers by question only if `questions`. A row in a form of another version is as none."""
    cursor.execute(
        f"SELECT student_id, feed_no, questions_no, engine, answers, mastery::text, days::text, {'questions::text' if questions else 'NULL'}"
        " FROM student_figures WHERE school_id = %s AND student_id = ANY(%s::uuid[]) AND starts_with(engine, %s)",
        (school_id, list(students), FORM),
    )
    return {
        student: Stored(feed_no, questions_no, version, count, read_documents(Documents(*documents), engine))
        for student, feed_no, questions_no, version, count, *documents in cursor.fetchall()
    }


def read_questions(cursor: Cursor, school_id: str, students: Sequence[str]) -> list[str]:
    """The documents `questions` of those students who have one, in no order; documents.py reads the parts of it."""
    cursor.execute(
        "SELECT questions::text FROM student_figures WHERE school_id = %s AND student_id = ANY(%s::uuid[]) AND starts_with(engine, %s)",
        (school_id, list(students), FORM),
    )
    return [row[0] for row in cursor.fetchall()]


def answers(cursor: Cursor, school_id: str, after: Mapping[str, int]) -> Iterator[tuple[str, Iterator[NumberedAnswer]]]:
    """(student, answers in canonical order) of attempts numbered above the student's value in `after`. To be read to its end."""
    if not after:
        return
    cursor.execute(_ANSWERS, {"school": school_id, "students": list(after), "after": list(after.values())})
    for student, rows in groupby(_fetched(cursor), key=itemgetter(0)):
        yield student, (NumberedAnswer(row[1], _answer(*row[2:])) for row in rows)
    cursor.execute("CLOSE answers_to_count")


def count_raw(cursor: Cursor, school_id: str, through: Mapping[str, int]) -> dict[str, int]:
    """How many attempts of each student are stored up to the feed number in `through`."""
    cursor.execute(
        "SELECT s.id, (SELECT count(*) FROM question_attempts a WHERE a.school_id = %s AND a.student_id = s.id AND a.feed_no <= s.through)"
        " FROM unnest(%s::uuid[], %s::bigint[]) AS s(id, through)",
        (school_id, list(through), list(through.values())),
    )
    return dict(cursor.fetchall())


def write(cursor: Cursor, school_id: str, rows: Mapping[str, Stored]) -> None:
    """Writes the rows of students whose locks the caller holds. Raises Unavailable when one of them was erased in between."""
    documents = {student: write_documents(stored.figures) for student, stored in rows.items()}
    values = [(school_id, student, *stored[:4], *documents[student]) for student, stored in rows.items()]
    try:
        execute_values(cursor, _WRITE, values, page_size=SET_ROWS_MAX)
    except ForeignKeyViolation as error:
        raise Unavailable("A student was erased meanwhile.") from error


def forget(cursor: Cursor, school_id: str, student_id: str) -> int:
    """Deletes a student's row, for an erasure in the caller's transaction; whoever counts this student is waited for. Returns how many it was."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s || %s::uuid::text))", (_LOCK, school_id, student_id))
    cursor.execute("DELETE FROM student_figures WHERE school_id = %s AND student_id = %s", (school_id, student_id))
    return cursor.rowcount


def forget_all(cursor: Cursor, school_id: str) -> int:
    """Deletes the rows of a school, to be made anew from its attempts; returns how many."""
    cursor.execute("DELETE FROM student_figures WHERE school_id = %s", (school_id,))
    return cursor.rowcount


def _fetched(cursor: Cursor) -> Iterator[tuple[Any, ...]]:
    while True:
        cursor.execute(f"FETCH FORWARD {FETCH_ROWS} FROM answers_to_count")
        rows = cursor.fetchall()
        yield from rows
        if len(rows) < FETCH_ROWS:
            return


def _answer(
    attempt_id: str,
    at_ms: int,
    device_id: str,
    question_id: str,
    concept_ids: list[str],
    correct: bool,
    given: str | None,
    active_ms: int | None,
    confidence: int | None,
    let_go: bool,
) -> Answer:
    attempt = FoldedAttempt(attempt_id, at_ms, device_id, question_id, tuple(concept_ids), correct)
    return Answer(attempt, given, active_ms, confidence, let_go)
