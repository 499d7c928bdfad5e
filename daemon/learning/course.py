"""The syllabus as the planner sees it: concepts with their weight in the exam and the concepts that come before them.

Weights and prerequisites are stated for topics, plans are made of concepts. A topic without a weightage of its own has its share of its parent's;
a topic's weight is divided among its concepts. A concept needs all concepts of the topics that its topics need, subtopics included.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from domain.learning.mastery import QuestionRef
from domain.learning.planner import ConceptNode

# Levels of the hierarchy that are looked at; a deeper one, or a circle, ends there.
DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Syllabus:
    """The hierarchy of topics: parents (None at the top) and weightages as stated."""

    parent_of: Mapping[str, str | None]
    weightage_of: Mapping[str, float | None]
    concepts_of: Mapping[str, tuple[str, ...]]
    needs: Mapping[str, tuple[str, ...]]

    def ancestry(self, topic: str) -> list[str]:
        """The topic, its parent, and so on up."""
        line = [topic]
        while len(line) < DEPTH_MAX and (parent := self.parent_of.get(line[-1])) in self.parent_of and parent not in line:
            line.append(str(parent))
        return line


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
    weights, needed = concept_weights(syllabus), concept_needs(syllabus)
    nodes = tuple(ConceptNode(c, weights.get(c, 0.0), tuple(sorted(needed.get(c, ())))) for c in sorted(_concepts(syllabus)))
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


def concept_weights(syllabus: Syllabus) -> dict[str, float]:
    """Each concept's part of the weights of its topics."""
    siblings: dict[str | None, int] = defaultdict(int)
    for topic, parent in syllabus.parent_of.items():
        siblings[parent] += syllabus.weightage_of[topic] is None
    weights: dict[str, float] = defaultdict(float)
    for topic, concepts in syllabus.concepts_of.items():
        share = 1.0
        for above in syllabus.ancestry(topic):
            stated = syllabus.weightage_of[above]
            if stated is not None:
                for concept in concepts:
                    weights[concept] += stated * share / len(concepts)
                break
            share /= siblings[syllabus.parent_of[above]]
    return weights


def concept_needs(syllabus: Syllabus) -> dict[str, set[str]]:
    """The concepts that each concept needs, itself never among them."""
    below: dict[str, set[str]] = defaultdict(set)  # a topic's concepts, subtopics' included
    for topic, concepts in syllabus.concepts_of.items():
        for above in syllabus.ancestry(topic):
            below[above].update(concepts)
    needs: dict[str, set[str]] = defaultdict(set)
    for topic, concepts in syllabus.concepts_of.items():
        wanted = {c for above in syllabus.ancestry(topic) for needed in syllabus.needs.get(above, ()) for c in below[needed]}
        for concept in concepts:
            needs[concept] |= wanted - {concept}
    return needs


def _concepts(syllabus: Syllabus) -> set[str]:
    return {concept for concepts in syllabus.concepts_of.values() for concept in concepts}


def _syllabus(conn: sqlite3.Connection) -> Syllabus:
    topics = conn.execute("SELECT id, parent_id, weightage FROM topics WHERE retired_at_ms IS NULL").fetchall()
    concepts = conn.execute("SELECT value, c.id FROM concepts c, json_each(topic_ids) WHERE retired_at_ms IS NULL ORDER BY c.id").fetchall()
    needs = conn.execute("SELECT topic_id, prerequisite_topic_id FROM topic_prerequisites ORDER BY id").fetchall()
    known = {id_ for id_, _, _ in topics}
    return Syllabus(
        {id_: parent for id_, parent, _ in topics},
        {id_: weightage for id_, _, weightage in topics},
        _grouped((topic, concept) for topic, concept in concepts if topic in known),
        _grouped(needs),
    )


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}
