"""The course as stored on this device, ready for the planner and for the choice of the next question."""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from domain.learning.mastery import QuestionRef
from domain.learning.pace import usual_minutes
from domain.learning.planner import ConceptNode
from domain.learning.syllabus import Syllabus, concept_needs, concept_weights, shared_out


@dataclass(frozen=True, slots=True)
class Course:
    """The course in use: concepts ready to be planned, questions as the choice of the next one sees them."""

    syllabus: Syllabus
    nodes: tuple[ConceptNode, ...]
    questions: tuple[QuestionRef, ...]

    @property
    def concepts(self) -> dict[str, ConceptNode]:
        """The concepts by id."""
        return {node.id: node for node in self.nodes}

    def concepts_under(self, topic: str) -> set[str]:
        """The concepts of a topic and of all topics below it."""
        below = (concepts for under, concepts in self.syllabus.concepts_of.items() if topic in self.syllabus.ancestry(under))
        return {concept for concepts in below for concept in concepts}


class CourseSource:
    """Reads the course once, and again when anything of it changed. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: object = None
        self._course: Course | None = None

    def current(self, conn: sqlite3.Connection) -> Course:
        """The course as of the caller's read."""
        token = conn.execute(_TOKEN).fetchone()
        with self._lock:
            if self._course is None or token != self._token:
                self._course, self._token = read_course(conn), token
            return self._course


def read_course(conn: sqlite3.Connection) -> Course:
    """The course from the database, some 10 ms for 200 concepts and 500 questions; inside the caller's read."""
    syllabus = _syllabus(conn)
    weights, needed, minutes = concept_weights(syllabus), concept_needs(syllabus), shared_out(syllabus, syllabus.minutes_of)
    nodes = tuple(
        ConceptNode(c, weights.get(c, 0.0), tuple(sorted(needed.get(c, ()))), usual_minutes(minutes.get(c)), place)
        for place, c in enumerate(syllabus.in_teaching_order())
    )
    return Course(syllabus, nodes, tuple(_questions(conn)))


# Rows come, change and go under numbers that only grow, so that these sums tell two courses apart.
_TOKEN = "SELECT " + ", ".join(
    f"(SELECT count(*) || ' ' || total(feed_no) || ' ' || max(feed_no) FROM {table})"
    for table in ("topics", "concepts", "topic_prerequisites", "questions")
)


def _questions(conn: sqlite3.Connection) -> Iterator[QuestionRef]:
    rows = conn.execute(
        "SELECT id, concept_ids, CASE WHEN kind = 'multiple_choice' THEN json_array_length(choices) END FROM questions"
        " WHERE retired_at_ms IS NULL ORDER BY id"
    )
    for id_, concept_ids, options in rows:
        yield QuestionRef(id_, tuple(msgspec.json.decode(concept_ids)), options or None)


def _syllabus(conn: sqlite3.Connection) -> Syllabus:
    topics = conn.execute("SELECT id, parent_id, weightage, estimated_minutes, position FROM topics WHERE retired_at_ms IS NULL").fetchall()
    concepts = conn.execute(
        "SELECT value, c.id FROM concepts c, json_each(topic_ids) WHERE retired_at_ms IS NULL ORDER BY c.external_id, c.id"
    ).fetchall()
    needs = conn.execute("SELECT topic_id, prerequisite_topic_id FROM topic_prerequisites ORDER BY id").fetchall()
    known = {row[0] for row in topics}
    return Syllabus(
        {id_: parent for id_, parent, _, _, _ in topics},
        {id_: weightage for id_, _, weightage, _, _ in topics},
        _grouped((topic, concept) for topic, concept in concepts if topic in known),
        _grouped(needs),
        {id_: minutes for id_, _, _, minutes, _ in topics},
        {id_: position for id_, _, _, _, position in topics},
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}
