"""The syllabus as the planner sees it: concepts with their weight in the exam and the concepts that come before them.

Weights and prerequisites are stated for topics, plans are made of concepts. A topic without a weightage of its own has its share of its parent's;
a topic's weight is divided among its concepts. A concept needs all concepts of the topics that its topics need, subtopics included.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from domain.mastery import QuestionRef
from domain.planner import ConceptNode

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


def concept_nodes(conn: sqlite3.Connection) -> list[ConceptNode]:
    """The concepts in use, ready to be planned; inside the caller's read."""
    syllabus = _syllabus(conn)
    weights = concept_weights(syllabus)
    needed = concept_needs(syllabus)
    return [ConceptNode(c, weights.get(c, 0.0), tuple(sorted(needed.get(c, ())))) for c in sorted(_concepts(syllabus))]


def question_refs(conn: sqlite3.Connection) -> list[QuestionRef]:
    """The questions in use, as the choice of the next one sees them; inside the caller's read."""
    rows = conn.execute("SELECT id, concept_ids FROM questions WHERE retired_at_ms IS NULL ORDER BY id")
    return [QuestionRef(id_, tuple(msgspec.json.decode(concept_ids))) for id_, concept_ids in rows]


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
