"""The rules that the planner is held against: syllabus order, weakest first, what can be learnt next by weight, without reviews and with a fixed share of
them, and the plain rule of marginal exam gain, from which the planner was made.

They take six minutes a concept, the time of three answers (marginal gain: eight), and call a concept learnt after three right answers in a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from benchmarks.planner_stream import Answer, Planned
from domain.learning.plan import LEARN_MINUTES, REVIEW_MINUTES, ConceptNode
from domain.learning.prerequisites import without_circles
from domain.learning.recall import LEARNT_STREAK, STABILITY_LEARNT_DAYS, recall, stability_after, stability_after_right

ITEM_MINUTES = LEARN_MINUTES
REVIEW_SHARE = 0.4
MARGINAL_LEARN_MINUTES = 8


class Planner(Protocol):
    """Plans one learner's days, knowing the answers and nothing else."""

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]: ...


@dataclass(slots=True)
class _Rule(ABC):
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

    @abstractmethod
    def _in_order(self) -> Iterable[str]: ...


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


@dataclass(slots=True)
class FringeWithReviews(FringeByWeight):
    """The same, with up to so large a share of the minutes for reviews of what was not seen for longest."""

    last_day: dict[str, float] = field(default_factory=dict, init=False)

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        given = list(answers)
        self.last_day |= {answer.concept: answer.day for answer in given}
        FringeByWeight.plan(self, day, 0, given)
        seen_before = (c for c in sorted(self.learnt, key=lambda c: (self.last_day[c], c)) if self.last_day[c] < day - 1)
        reviews = [Planned(c, REVIEW_MINUTES) for c in islice(seen_before, int(REVIEW_SHARE * minutes) // REVIEW_MINUTES)]
        return reviews + FringeByWeight.plan(self, day, minutes - REVIEW_MINUTES * len(reviews), ())


@dataclass(slots=True)
class MarginalGain:
    """Each day greedily by marginal exam gain a minute: a concept's value is its weight and a part of the value of each that it opens."""

    concepts: Sequence[ConceptNode]
    exam_day: int
    needs: dict[str, list[str]] = field(init=False)
    opens: dict[str, list[str]] = field(init=False)
    weight: dict[str, float] = field(init=False)
    value: dict[str, float] = field(default_factory=dict, init=False)
    streaks: dict[str, int] = field(default_factory=dict, init=False)
    learnt: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.needs, _ = without_circles({node.id: node.prerequisites for node in self.concepts})
        self.weight = {node.id: node.weight for node in self.concepts}
        self.opens = {concept: [] for concept in self.needs}
        for concept, needed in self.needs.items():
            for prerequisite in needed:
                self.opens[prerequisite].append(concept)
        for concept in reversed(self.needs):
            self.value[concept] = self.weight[concept] + sum(0.6 * self.value[d] / len(self.needs[d]) for d in self.opens[concept])

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        for answer in answers:
            self._take_in(answer)
        learnt, items = dict(self.learnt), dict[str, int]()
        while best := max(self._steps(day, minutes, learnt, items), default=None):
            _, concept, item_minutes = best
            items[concept] = item_minutes
            minutes -= item_minutes
            learnt[concept] = learnt.get(concept, (STABILITY_LEARNT_DAYS, day))[0], day
        return [Planned(concept, item_minutes) for concept, item_minutes in items.items()]

    def _take_in(self, answer: Answer) -> None:
        concept = answer.concept
        streak = self.streaks[concept] = self.streaks.get(concept, 0) + 1 if answer.correct else 0
        stability, last = self.learnt.get(concept, (0.0, answer.day))
        stability = stability_after(streak, stability, answer.day - last, 1.0)
        if stability:
            self.learnt[concept] = stability, answer.day

    def _steps(
        self, day: int, minutes: int, learnt: dict[str, tuple[float, float]], done: Collection[str]
    ) -> Iterator[tuple[float, str, int]]:
        to_exam = self.exam_day - day
        for concept in self.needs:
            if concept in done:
                continue
            if concept in learnt:
                stability, last = learnt[concept]
                worth = self.weight[concept] + 0.3 * sum(self.weight[d] for d in self.opens[concept] if d not in learnt)
                more = recall(to_exam, stability_after_right(day - last, stability)) - recall(self.exam_day - last, stability)
                gain, item_minutes = worth * more, REVIEW_MINUTES
            elif all(needed in learnt for needed in self.needs[concept]):
                gain, item_minutes = self.value[concept] * recall(to_exam, STABILITY_LEARNT_DAYS), MARGINAL_LEARN_MINUTES
            else:
                continue
            if item_minutes <= minutes:
                yield gain / item_minutes, concept, item_minutes
