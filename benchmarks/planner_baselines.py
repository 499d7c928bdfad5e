"""The rules that the planner is held against: syllabus order, weakest first, and what can be learnt next by weight, without reviews.

They take six minutes a concept, the time of three answers, and call a concept learnt after three right answers in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.planner_stream import Answer, Planned
from domain.learning.plan import LEARN_MINUTES, ConceptNode
from domain.learning.prerequisites import without_circles
from domain.learning.recall import LEARNT_STREAK

ITEM_MINUTES = LEARN_MINUTES


class Planner(Protocol):
    """Plans one learner's days, knowing the answers and nothing else."""

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]: ...


@dataclass(slots=True)
class _Rule:
    concepts: Sequence[ConceptNode]
    exam_day: int | None
    streaks: dict[str, int] = field(default_factory=dict, init=False)
    counts: dict[str, list[int]] = field(default_factory=dict, init=False)
    learnt: set[str] = field(default_factory=set, init=False)

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        for concept, _, correct in answers:
            counts = self.counts.setdefault(concept, [0, 0])
            counts[0] += correct
            counts[1] += 1
            self.streaks[concept] = self.streaks.get(concept, 0) + 1 if correct else 0
            if self.streaks[concept] >= LEARNT_STREAK:
                self.learnt.add(concept)
        items = []
        for concept in self._in_order():
            if minutes < ITEM_MINUTES:
                break
            items.append(Planned(concept, ITEM_MINUTES))
            minutes -= ITEM_MINUTES
        return items

    def _in_order(self) -> Iterable[str]:
        raise NotImplementedError


class SyllabusOrder(_Rule):
    """One after the other, prerequisites first, until learnt; never again."""

    def _in_order(self) -> Iterable[str]:
        needs, _ = without_circles({node.id: node.prerequisites for node in self.concepts})
        return [concept for concept in needs if concept not in self.learnt]


class WeakestFirst(_Rule):
    """What was answered wrong most; what was never answered counts as half known."""

    def _in_order(self) -> Iterable[str]:
        return sorted((node.id for node in self.concepts), key=lambda c: (self._share(c), c))

    def _share(self, concept: str) -> float:
        right, answered = self.counts.get(concept, (0, 0))
        return (right + 1) / (answered + 2)


class FringeByWeight(_Rule):
    """What can be learnt next, heaviest first; no reviews."""

    def _in_order(self) -> Iterator[str]:
        nodes = {node.id: node for node in self.concepts}
        done = set(self.learnt)
        while True:
            ready = [n for n in nodes.values() if n.id not in done and all(p in done or p not in nodes for p in n.prerequisites)]
            if not ready:
                return
            best = max(ready, key=lambda n: (n.weight, n.id)).id
            done.add(best)
            yield best
