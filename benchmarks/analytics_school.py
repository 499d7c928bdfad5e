"""A school for measuring class figures: one class, a course, and as many attempts behind it as asked for, written by PostgreSQL itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2

from cloud_api.database import CloudDatabase, one_row
from cloud_api.people import create_user
from cloud_api.publication import Publication
from cloud_api.schools import create_school
from domain.clock import SystemClock
from domain.ids import Id, IdSource

STUDENTS, CONCEPTS, TOPICS, QUESTIONS_A_CONCEPT = 40, 200, 20, 10
CLASS_NAME = "40 students"
_RETIRABLE = {"external_id": None, "retired_at_ms": None}

# Answers over 300 days, in the order of time for each student, better with time; half of the wrong ones are the same wrong one.
_ATTEMPTS = """
INSERT INTO question_attempts (school_id, id, student_id, question_id, answer, correct, answered_at_ms, active_ms, confidence, purpose, device_id, feed_no)
SELECT %(school)s, gen_random_uuid(), drawn.student_id, drawn.question_id, CASE WHEN drawn.correct THEN '42' WHEN drawn.luck > 0.5 THEN '41' ELSE '7' END,
       drawn.correct, %(now)s - 300::bigint * 86400000 + (drawn.n * 300::bigint * 86400000 / %(rows)s), 5000 + (drawn.luck * 50000)::int,
       1 + (drawn.luck * 3.99)::int %% 4, 'plan', %(device)s, %(head)s + drawn.n
  FROM (SELECT n, (%(students)s::uuid[])[1 + n %% %(student_count)s] AS student_id,
               (%(questions)s::uuid[])[1 + floor(random() * %(question_count)s)::int] AS question_id,
               random() AS luck, random() < 0.5 + 0.3 * n / %(rows)s + 0.1 * ((n %% %(student_count)s) / %(student_count)s::float) AS correct
          FROM generate_series(1, %(rows)s) AS n) AS drawn
"""


@dataclass(frozen=True, slots=True)
class AnalyticsSchool:
    """The school and its class."""

    id: Id
    class_id: Id
    students: tuple[Id, ...]


def build(database: CloudDatabase, rows: int) -> AnalyticsSchool:
    """A new school in this database with so many attempts. The database is analysed afterwards, as autovacuum does within a minute."""
    clock = SystemClock()
    ids, now_ms = IdSource(clock.now_ms), clock.now_ms()
    with database.transaction() as cursor:
        school_id = create_school(cursor, ids.new(), f"School of {STUDENTS}", now_ms).id
    class_id, questions = _publish_course(database, ids, school_id, now_ms)
    students = []
    for n in range(STUDENTS):
        with database.transaction() as cursor:
            students.append(create_user(cursor, ids, school_id, f"s{n}", f"Student {n}", "student", [CLASS_NAME], now_ms).id)
    school = AnalyticsSchool(school_id, class_id, tuple(students))
    _fill(database.url, school, questions, ids.new(), rows, now_ms)
    return school


def _publish_course(database: CloudDatabase, ids: IdSource, school_id: Id, now_ms: int) -> tuple[Id, list[Id]]:
    publication, class_id = Publication(school_id), ids.new()
    publication.put("classes", {"id": class_id, "name": CLASS_NAME, **_RETIRABLE})
    topics, concepts, questions = ([ids.new() for _ in range(n)] for n in (TOPICS, CONCEPTS, CONCEPTS * QUESTIONS_A_CONCEPT))
    for n, topic in enumerate(topics):
        row: dict[str, Any] = {"id": topic, "parent_id": None, "title": f"Topic {n}", "level": "unit", "position": n, "weightage": None}
        publication.put("topics", {**row, **_RETIRABLE})
    for topic, needed in zip(topics[1:], topics, strict=False):
        publication.put("topic_prerequisites", {"id": ids.new(), "topic_id": topic, "prerequisite_topic_id": needed, "reason": None})
    for n, concept in enumerate(concepts):
        row = {"id": concept, "topic_ids": [topics[n % TOPICS]], "title": f"Concept {n}", "mastery_threshold": 0.8}
        publication.put("concepts", {**row, **_RETIRABLE})
    for n, question in enumerate(questions):
        at = n % CONCEPTS
        row = {
            "id": question,
            "topic_id": topics[at % TOPICS],
            "concept_ids": [concepts[at]],
            "kind": "short_answer",
            "stem": f"Question {n}?",
        }
        publication.put("questions", {**row, "choices": None, "answers": ["42"], "source": None, **_RETIRABLE})
    with database.transaction() as cursor:
        publication.write(cursor, now_ms)
    return class_id, questions


def _fill(url: str, school: AnalyticsSchool, questions: list[Id], device: Id, rows: int, now_ms: int) -> None:
    keys: dict[str, Any] = {
        "school": school.id,
        "now": now_ms,
        "rows": rows,
        "device": device,
        "students": list(school.students),
        "student_count": len(school.students),
        "questions": questions,
        "question_count": len(questions),
    }
    with closing(psycopg2.connect(url, options="-c carrel.every_school=on -c statement_timeout=0")) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("UPDATE schools SET head = head + %s WHERE id = %s RETURNING head", (rows, school.id))
            (head,) = one_row(cursor)
            cursor.execute(_ATTEMPTS, {**keys, "head": head - rows})
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
