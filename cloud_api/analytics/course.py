"""The course as class figures need it: titles, which concept is in which topic, what needs what."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cloud_api.database import Cursor
from domain.learning.syllabus import Syllabus, concept_weights

_WORDS_AND_NUMBER = re.compile(r"([^0-9]*)([0-9]{0,18})")


class Concept(NamedTuple):
    title: str
    topic_ids: tuple[str, ...]


class Topic(NamedTuple):
    """`weightage`: its part of the exam, where that is stated."""

    title: str
    parent_id: str | None
    weightage: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """What is not retired, in the order of teaching: topics by their position, each before its parts; concepts as their first topic comes, by title within
    it, those of no topic last. `concepts_of` counts in a topic the concepts of its parts.
    """

    concepts: Mapping[str, Concept]
    topics: Mapping[str, Topic]
    concepts_of: Mapping[str, tuple[str, ...]]

    @property
    def titles(self) -> dict[str, str]:
        """Of the concepts, by id."""
        return {concept: known.title for concept, known in self.concepts.items()}

    @property
    def concepts_in(self) -> dict[str, list[str]]:
        """The concepts of each topic itself, without those of its parts."""
        found: dict[str, list[str]] = {topic: [] for topic in self.topics}
        for concept, known in self.concepts.items():
            for topic in known.topic_ids:
                if topic in found:
                    found[topic].append(concept)
        return found

    @property
    def weights(self) -> dict[str, float]:
        """Each concept's part of the exam, as plans see it; empty where the course states none."""
        parents = {topic: known.parent_id for topic, known in self.topics.items()}
        stated = {topic: known.weightage for topic, known in self.topics.items()}
        return concept_weights(Syllabus(parents, stated, {t: tuple(c) for t, c in self.concepts_in.items() if c}, {}))


def course_of(cursor: Cursor, school_id: str) -> Course:
    """The school's course; two statements."""
    cursor.execute(
        "SELECT id, title, parent_id, weightage FROM topics WHERE school_id = %s AND retired_at_ms IS NULL ORDER BY position, title, id",
        (school_id,),
    )
    topics = _each_before_its_parts({row[0]: Topic(*row[1:]) for row in cursor.fetchall()})
    cursor.execute("SELECT id, title, topic_ids FROM concepts WHERE school_id = %s AND retired_at_ms IS NULL", (school_id,))
    concepts = _as_taught({row[0]: Concept(row[1], tuple(row[2])) for row in cursor.fetchall()}, list(topics))
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


def _each_before_its_parts(topics: Mapping[str, Topic]) -> dict[str, Topic]:
    """The topics, which come by position, down from those without a parent; topics in a circle come last."""
    parts: dict[str | None, list[str]] = {}
    for topic, known in topics.items():
        parts.setdefault(known.parent_id if known.parent_id in topics else None, []).append(topic)
    ordered: dict[str, Topic] = {}
    waiting = parts.get(None, [])[::-1]
    while waiting:
        topic = waiting.pop()
        ordered[topic] = topics[topic]
        waiting += reversed(parts.get(topic, []))
    return {**ordered, **topics}


def _as_taught(concepts: Mapping[str, Concept], topics: Sequence[str]) -> dict[str, Concept]:
    places = {topic: place for place, topic in enumerate(topics)}

    def key(item: tuple[str, Concept]) -> tuple[int, list[tuple[str, int]], str]:
        place = min((places[topic] for topic in item[1].topic_ids if topic in places), default=len(places))
        return place, _by_number(item[1].title), item[0]

    return dict(sorted(concepts.items(), key=key))


def _by_number(title: str) -> list[tuple[str, int]]:
    """So that `Part 2` comes before `Part 10`: numbers in a title count as such."""
    return [(words, int(number or 0)) for words, number in _WORDS_AND_NUMBER.findall(title.casefold())]


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
