"""Where plans lead: how much of the exam a student has now, and which topics the plans of a class will not reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from domain.learning.analytics.heat_map import Cell
from domain.learning.levels import Level

# A plan does not reach a topic when it leaves out at least this share of its concepts.
LEFT_OUT_SHARE_MIN = 0.5
_THERE = (Level.PROFICIENT, Level.MASTERED)


@dataclass(frozen=True, slots=True)
class OutOfReach:
    """A topic of `concepts` concepts that the plans of `students` leave out, of `plans` that look ahead to an exam."""

    topic_id: str
    concepts: int
    plans: int
    students: tuple[str, ...]


def coverage(cells: Mapping[str, Cell], weights: Mapping[str, float]) -> float | None:
    """The share of the exam's weight at proficient or above; None where no concept has a weight."""
    whole = sum(weights.values())
    there = sum(weight for concept, weight in weights.items() if concept in cells and cells[concept].level in _THERE)
    return round(there / whole, 4) if whole > 0 else None


def out_of_reach(left_out: Mapping[str, Collection[str]], concepts_in: Mapping[str, Collection[str]]) -> list[OutOfReach]:
    """The topics that somebody's plan does not reach: those of most students first, else in the order of `concepts_in`.

    `left_out` has what each student's plan leaves out, `concepts_in` the concepts of each topic itself, without those of its parts.
    """
    found = []
    for topic, concepts in concepts_in.items():
        needed = max(1.0, LEFT_OUT_SHARE_MIN * len(concepts))
        students = tuple(student for student, left in left_out.items() if sum(c in left for c in concepts) >= needed)
        if concepts and students:
            found.append(OutOfReach(topic, len(concepts), len(left_out), students))
    return sorted(found, key=lambda topic: -len(topic.students))
