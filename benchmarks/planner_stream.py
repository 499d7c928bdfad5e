"""The study planner, asked day by day about one learner, of whom it is told the answers and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

from domain.learning.attempts import DAY_MS, FoldedAttempt
from domain.learning.memory import student_memory
from domain.learning.pace import minutes_to_learn
from domain.learning.plan import MINUTES_A_DAY_MAX, REVIEW_MINUTES, ConceptNode, PlanRequest
from domain.learning.planner import make_plan
from domain.learning.recall import study_states

_EPOCH = date(1970, 1, 1)
# Days that a calendar holds with room to spare.
DAY_MAX = 1_000_000


class Answer(NamedTuple):
    """One answer on a day, which may have a fraction."""

    concept: str
    day: float
    correct: bool


class Planned(NamedTuple):
    """One item of a day's plan."""

    concept: str
    minutes: int


@dataclass(slots=True)
class PlannerStream:
    """Plans one learner's days. `exam_day` None means that no exam is known.

    With `looks_ahead` each plan covers the day after as well; `ahead` then holds the concepts that were planned for each day on the day before.
    """

    concepts: Sequence[ConceptNode]
    exam_day: int | None
    looks_ahead: bool = False
    ahead: dict[int, frozenset[str]] = field(default_factory=dict, init=False)
    answers: dict[float, list[Answer]] = field(default_factory=dict, init=False)
    planned: dict[tuple[int, str], int] = field(default_factory=dict, init=False)

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        """The plan of a day. `answers` are those since the last plan, or all so far."""
        self._take_in(answers)
        attempts = self._attempts()
        memory = student_memory(attempts)
        exam = None if self.exam_day is None else _date(self.exam_day)
        days = 1 + self.looks_ahead
        request = PlanRequest(_date(day), exam, (min(max(minutes, 0), MINUTES_A_DAY_MAX),) * 7, days, memory=memory, recaps=False)
        to_learn = self._minutes_to_learn(attempts)
        nodes = [replace(node, minutes_to_learn=to_learn) for node in self.concepts]
        plan = make_plan(nodes, study_states(attempts, memory), request).items
        self.ahead[day + 1] = frozenset(item.concept_id for item in plan if item.forecast)
        items = [item for item in plan if not item.forecast]
        for item in items:
            self.planned[day, item.concept_id] = item.minutes
        return [Planned(item.concept_id, item.minutes) for item in items]

    def _take_in(self, answers: Iterable[Answer]) -> None:
        """Add answers that are new. A day given again with all that was known of it, and perhaps more, replaces it."""
        known = {node.id for node in self.concepts}
        by_day: dict[float, list[Answer]] = defaultdict(list)
        for answer in answers:
            if answer.concept in known:
                by_day[answer.day].append(answer)
        for day, given in by_day.items():
            before = self.answers.get(day, [])
            self.answers[day] = given if Counter(before) <= Counter(given) else before + given

    def _attempts(self) -> list[FoldedAttempt]:
        ordered = (answer for day in sorted(self.answers) for answer in self.answers[day])
        return [
            FoldedAttempt(f"{n:09}", int(answer.day * DAY_MS), "", answer.concept, (answer.concept,), answer.correct)
            for n, answer in enumerate(ordered)
        ]

    def _minutes_to_learn(self, attempts: Sequence[FoldedAttempt]) -> int:
        """By what the answers of planned items took, short reviews left aside."""
        given = Counter((a.answered_at_ms // DAY_MS, a.question_id) for a in attempts if a.answered_at_ms is not None)
        told = [(minutes, given[key]) for key, minutes in self.planned.items() if minutes > REVIEW_MINUTES and given[key]]
        return minutes_to_learn(sum(minutes for minutes, _ in told), sum(count for _, count in told))


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=min(max(day, 0), DAY_MAX))
