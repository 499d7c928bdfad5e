"""A class with a small course and attempts written straight to the school's database, under feed numbers as a push takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg2.extras import Json, execute_values

from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.days import day_text
from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from cloud_api.sync import feed
from domain.clock import Clock
from domain.ids import Id, IdSource
from tests.support.cloud import SchoolBuilder

DAY_MS = 24 * 60 * 60 * 1000
# A Monday, noon UTC.
NOW_MS = 1_767_614_400_000


class Given(NamedTuple):
    """One answer: who, which question (a name), when (days before now, or after if negative), how."""

    student: str
    question: str
    days_ago: float
    correct: bool
    given: str | None = None
    active_ms: int | None = 20_000
    confidence: int | None = None
    device: str = "laptop"


class FixedClock(Clock):
    """Stands still at NOW_MS until it is moved."""

    def __init__(self) -> None:
        self.at_ms = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


@dataclass
class Classroom:
    """A school's class 7b. Names stand for ids: `ids["ada"]`."""

    school: SchoolBuilder
    clock: FixedClock
    ids: dict[str, Id] = field(default_factory=dict)

    @classmethod
    def of(cls, school: SchoolBuilder, students: Sequence[str] = ("ada", "ben", "cem")) -> Classroom:
        """Two topics of two concepts (fractions: halves, thirds; equations: sums, products), equations needing fractions; three questions a concept."""
        room = cls(school, FixedClock())
        room.add_course()
        room._publish({"classes": [{"id": room.name("7b"), "name": "7b", "external_id": None, "retired_at_ms": None}]})
        for student in students:
            room.ids[student] = room.school.add_user(student, "student", ["7b"]).id
        return room

    @property
    def class_id(self) -> Id:
        return self.ids["7b"]

    @property
    def figures(self) -> ClassFigures:
        return ClassFigures(self.school.database, self.clock, IdSource(self.clock.now_ms))

    def name(self, name: str) -> Id:
        """The id that a name stands for, made when it is new."""
        return self.ids.setdefault(name, self.school.ids.new())

    def grant(self, student: str) -> Grant:
        """What lets a device hold a student's rows."""
        return Grant("student", self.ids[student])

    def add_course(self) -> None:
        needs = {
            "id": self.name("needs"),
            "topic_id": self.name("equations"),
            "prerequisite_topic_id": self.name("fractions"),
            "reason": None,
        }
        concepts = {"halves": "fractions", "thirds": "fractions", "sums": "equations", "products": "equations"}
        self._publish(
            {
                "topics": [
                    {"id": self.name(t), "parent_id": None, "title": t, "level": "unit", "position": n, "weightage": None, "external_id": None,
                     "retired_at_ms": None} for n, t in enumerate(("fractions", "equations"))
                ],
                "topic_prerequisites": [needs],
                "concepts": [
                    {"id": self.name(c), "topic_ids": [self.ids[t]], "title": c, "mastery_threshold": 0.8, "external_id": None, "retired_at_ms": None}
                    for c, t in concepts.items()
                ],
                "questions": [self.question(f"{c}-{n}", t, [c]) for c, t in concepts.items() for n in range(3)],
            }
        )  # fmt: skip

    def question(self, name: str, topic: str, concepts: Iterable[str]) -> dict[str, Any]:
        return {
            "id": self.name(name), "topic_id": self.name(topic), "concept_ids": [self.name(c) for c in concepts], "kind": "short_answer",
            "stem": f"About {name}?", "choices": None, "answers": ["42"], "source": None, "external_id": None, "retired_at_ms": None,
        }  # fmt: skip

    def publish_topics(self, names: Sequence[str]) -> None:
        """Adds topics `t` with one concept each, `t-c`, and one question, `t-0`."""
        self._publish(
            {
                "topics": [
                    {"id": self.name(t), "parent_id": None, "title": t, "level": "unit", "position": 10 + n, "weightage": None,
                     "external_id": None, "retired_at_ms": None} for n, t in enumerate(names)
                ]
            }
        )  # fmt: skip
        for topic in names:
            self.publish_concepts(topic, [f"{topic}-c"])
            self.put_question(f"{topic}-0", topic, [f"{topic}-c"])

    def publish_concepts(self, topic: str, names: Iterable[str]) -> None:
        """Adds concepts to a topic, without questions."""
        self._publish(
            {
                "concepts": [
                    {"id": self.name(c), "topic_ids": [self.ids[topic]], "title": c, "mastery_threshold": 0.8, "external_id": None,
                     "retired_at_ms": None} for c in names
                ]
            }
        )  # fmt: skip

    def put_question(self, name: str, topic: str, concepts: Iterable[str]) -> None:
        """Adds a question, or changes what it is about."""
        self._publish({"questions": [self.question(name, topic, concepts)]})

    def _publish(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        publication = Publication(self.school.id)
        for table, of_table in rows.items():
            for row in of_table:
                publication.put(table, row)
        with self.school.database.transaction(school=self.school.id) as cursor:
            publication.write(cursor, self.clock.now_ms())

    def answer(self, answers: Sequence[Given]) -> None:
        """Stores attempts in one transaction, in this order of arrival."""
        with self.school.database.transaction(school=self.school.id) as cursor:
            first = feed.take(cursor, self.school.id, len(answers))
            execute_values(
                cursor,
                "INSERT INTO question_attempts (school_id, id, student_id, question_id, answer, correct, answered_at_ms, active_ms, confidence,"
                " purpose, device_id, feed_no) VALUES %s",
                [
                    (
                        self.school.id, self.school.ids.new(), self.ids[a.student], self.ids[a.question], a.given, a.correct,
                        NOW_MS - round(a.days_ago * DAY_MS), a.active_ms, a.confidence, "free", self.name(a.device), first + n,
                    )
                    for n, a in enumerate(answers)
                ],
            )  # fmt: skip

    def other_class(self, name: str) -> Id:
        """Another class, empty."""
        self._publish({"classes": [{"id": self.name(name), "name": name, "external_id": None, "retired_at_ms": None}]})
        return self.ids[name]

    def move(self, student: str, class_id: Id) -> None:
        """Makes a student a member of that class and of no other."""
        with self.school.database.transaction(school=self.school.id) as cursor:
            cursor.execute(
                "UPDATE class_members SET class_id = %s WHERE school_id = %s AND user_id = %s",
                (class_id, self.school.id, self.ids[student]),
            )

    def exam(self, student: str, in_days: int) -> None:
        """The student's exam, so many days from today."""
        with self.school.database.transaction(school=self.school.id) as cursor:
            number = feed.take(cursor, self.school.id, 1)
            cursor.execute(
                "INSERT INTO student_profiles (school_id, id, exam_on, feed_no) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (school_id, id) DO UPDATE SET exam_on = excluded.exam_on, feed_no = excluded.feed_no",
                (self.school.id, self.ids[student], day_text(NOW_MS // DAY_MS + in_days), number),
            )

    def plan(
        self, student: str, items: Sequence[tuple[int, int, str]], learnt_share: float | None = None, made_days_ago: float = 30
    ) -> None:
        """A study plan with items (days before today, minutes, status)."""
        start = NOW_MS // DAY_MS - int(made_days_ago)
        plan_id, at_ms, device = self.school.ids.new(), NOW_MS - round(made_days_ago * DAY_MS), self.name("laptop")
        forecast = None if learnt_share is None else Json({"learnt_share": learnt_share})
        with self.school.database.transaction(school=self.school.id) as cursor:
            number = feed.take(cursor, self.school.id, 1)
            cursor.execute(
                "INSERT INTO study_plans (school_id, id, student_id, created_at_ms, starts_on, days, planner_version, forecast, device_id, feed_no)"
                " VALUES (%s, %s, %s, %s, %s, 60, 'p', %s, %s, %s)",
                (self.school.id, plan_id, self.ids[student], at_ms, day_text(start), forecast, device, number),
            )
            execute_values(
                cursor,
                "INSERT INTO study_plan_items (school_id, id, plan_id, student_id, concept_id, day, position, kind, minutes, reason, status, feed_no)"
                " VALUES %s",
                [
                    (self.school.id, self.school.ids.new(), plan_id, self.ids[student], self.ids["halves"],
                     day_text(NOW_MS // DAY_MS - days_ago), n, "new", minutes, "next", status, number)
                    for n, (days_ago, minutes, status) in enumerate(items)
                ],
            )  # fmt: skip

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything that is stored of figures, but for watermarks."""
        with self.school.database.transaction(read_only=True, school=self.school.id) as cursor:
            cursor.execute(
                "SELECT student_id, answers, mastery::text, days::text, questions::text FROM student_figures WHERE school_id = %s ORDER BY 1",
                (self.school.id,),
            )
            return [tuple(row) for row in cursor.fetchall()]
