"""The syllabus as the planner sees it: concepts with their weight in the exam and the concepts that come before them.

Weights and prerequisites are stated for topics, plans are made of concepts. A topic without a weightage of its own has its share of its parent's;
a topic's weight is divided among its concepts. Minutes to learn are stated and shared out alike. A concept needs all concepts of the topics that its
topics need, subtopics included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

# Levels of the hierarchy that are looked at; a deeper one, or a circle, ends there.
DEPTH_MAX = 20


@dataclass(frozen=True, slots=True)
class Syllabus:
    """The hierarchy of topics: parents (None at the top), weightages and minutes as stated, and the place of each topic among its siblings."""

    parent_of: Mapping[str, str | None]
    weightage_of: Mapping[str, float | None]
    concepts_of: Mapping[str, tuple[str, ...]]
    needs: Mapping[str, tuple[str, ...]]
    minutes_of: Mapping[str, float | None] = field(default_factory=dict)
    position_of: Mapping[str, int] = field(default_factory=dict)

    def ancestry(self, topic: str) -> list[str]:
        """The topic, its parent, and so on up."""
        line = [topic]
        while len(line) < DEPTH_MAX and (parent := self.parent_of.get(line[-1])) in self.parent_of and parent not in line:
            line.append(str(parent))
        return line

    def in_teaching_order(self) -> list[str]:
        """All concepts as they come up first, when topics are taught in the order of their positions, level by level."""

        def place(topic: str) -> list[tuple[int, str]]:
            return [(self.position_of.get(above, 0), above) for above in reversed(self.ancestry(topic))]

        return list(dict.fromkeys(concept for topic in sorted(self.concepts_of, key=place) for concept in self.concepts_of[topic]))


def concept_weights(syllabus: Syllabus) -> dict[str, float]:
    """Each concept's part of the weights of its topics."""
    return shared_out(syllabus, syllabus.weightage_of)


def shared_out(syllabus: Syllabus, stated_of: Mapping[str, float | None]) -> dict[str, float]:
    """Each concept's part of what is stated of its topics, or of those above them; a concept has none if nothing is."""
    siblings: dict[str | None, int] = defaultdict(int)
    for topic, parent in syllabus.parent_of.items():
        siblings[parent] += stated_of.get(topic) is None
    parts: dict[str, float] = defaultdict(float)
    for topic, concepts in syllabus.concepts_of.items():
        share = 1.0
        for above in syllabus.ancestry(topic):
            stated = stated_of.get(above)
            if stated is not None:
                for concept in concepts:
                    parts[concept] += stated * share / len(concepts)
                break
            share /= siblings[syllabus.parent_of[above]]
    return parts


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
