"""The course as class figures need it: titles, which concept is in which topic, what needs what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cloud_api.database import Cursor


class Concept(NamedTuple):
    title: str
    topic_ids: tuple[str, ...]


class Topic(NamedTuple):
    title: str
    parent_id: str | None


@dataclass(frozen=True, slots=True)
class Course:
    """What is not retired. Topics stand in the order of the course, `concepts_of` counts in a topic the concepts of its parts."""

    concepts: Mapping[str, Concept]
    topics: Mapping[str, Topic]
    concepts_of: Mapping[str, tuple[str, ...]]

    @property
    def titles(self) -> dict[str, str]:
        """Of the concepts, by id."""
        return {concept: known.title for concept, known in self.concepts.items()}


def course_of(cursor: Cursor, school_id: str) -> Course:
    """The school's course; two statements."""
    cursor.execute(
        "SELECT id, title, parent_id FROM topics WHERE school_id = %s AND retired_at_ms IS NULL ORDER BY position, title, id", (school_id,)
    )
    topics = {row[0]: Topic(row[1], row[2]) for row in cursor.fetchall()}
    cursor.execute(
        "SELECT id, title, topic_ids FROM concepts WHERE school_id = %s AND retired_at_ms IS NULL ORDER BY title, id", (school_id,)
    )
    concepts = {row[0]: Concept(row[1], tuple(row[2])) for row in cursor.fetchall()}
    return Course(concepts, topics, _concepts_of(concepts, topics))


def prerequisites_of(cursor: Cursor, school_id: str) -> dict[str, list[str]]:
    """What each topic needs."""
    cursor.execute(
        "SELECT topic_id, prerequisite_topic_id FROM topic_prerequisites WHERE school_id = %s ORDER BY topic_id, prerequisite_topic_id",
        (school_id,),
    )
    needs: dict[str, list[str]] = {}
    for topic, needed in cursor.fetchall():
        needs.setdefault(topic, []).append(needed)
    return needs


def stems_of(cursor: Cursor, school_id: str, questions: Collection[str]) -> dict[str, str]:
    """The texts of questions by id."""
    cursor.execute("SELECT id, stem FROM questions WHERE school_id = %s AND id = ANY(%s::uuid[])", (school_id, sorted(questions)))
    return dict(cursor.fetchall())


def questions_about(cursor: Cursor, school_id: str, concepts: Collection[str]) -> frozenset[str]:
    """The questions about any of the concepts."""
    cursor.execute("SELECT id FROM questions WHERE school_id = %s AND concept_ids ?| %s::text[]", (school_id, sorted(concepts)))
    return frozenset(row[0] for row in cursor.fetchall())


def _concepts_of(concepts: Mapping[str, Concept], topics: Mapping[str, Topic]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {topic: {} for topic in topics}
    for concept, known in concepts.items():
        for topic in known.topic_ids:
            seen: set[str] = set()
            at: str | None = topic
            while at is not None and at in topics and at not in seen:
                seen.add(at)
                found[at][concept] = None
                at = topics[at].parent_id
    return {topic: tuple(members) for topic, members in found.items()}
