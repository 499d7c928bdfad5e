"""The study planner, asked day by day about one learner, of whom it is told the answers and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from domain.learning.attempts import DAY_MS, FoldedAttempt
from domain.learning.memory import student_memory
from domain.learning.pace import at_pace, pace
from domain.learning.plan import MINUTES_A_DAY_MAX, REVIEW_MINUTES, ConceptNode, PlanRequest
from domain.learning.planner import make_plan
from domain.learning.recall import study_states

_EPOCH = date(1970, 1, 1)
# Days that a calendar holds with room to spare.
DAY_MAX = 1_000_000
WEEK_DAYS = 7
# Of as many weeks the mean tells the minutes of a day to come.
WEEKS_LOOKED_AT = 4


class Answer(NamedTuple):
    """One answer on a day, which may have a fraction."""

    concept: str
    day: float
    correct: bool


class Planned(NamedTuple):
    """One item of a day's plan."""

    concept: str
    minutes: int


class _Asked(NamedTuple):
    """What was asked for last."""

    day: int
    minutes: int
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class PlannerStream:
    """Plans one learner's days. `exam_day` None means that no exam is known.

    Each plan looks as far as the next day with time, and what it has for that day is kept in the next plan where little is lost by it; not with
    `keeps` False. `expected` holds the concepts that the plan before had for the day asked about last.
    """

    concepts: Sequence[ConceptNode]
    exam_day: int | None
    keeps: bool = True
    expected: frozenset[str] = field(default=frozenset(), init=False)
    forecast: frozenset[str] = field(default=frozenset(), init=False)
    answers: dict[float, list[Answer]] = field(default_factory=dict, init=False)
    told_minutes: dict[int, int] = field(default_factory=dict, init=False)
    planned: dict[tuple[int, str], int] = field(default_factory=dict, init=False)
    asked: _Asked | None = field(default=None, init=False)

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        """The plan of a day. `answers` are those since the last plan, or all so far; the same question again, word for word, changes nothing."""
        asked = _Asked(day, minutes, tuple(answers))
        if asked != self.asked:
            self._take_in(asked.answers)
        self.asked = asked
        minutes = min(max(minutes, 0), MINUTES_A_DAY_MAX)
        if minutes and day > max(self.told_minutes, default=-1):
            self.expected = self.forecast
        self.told_minutes[day] = minutes
        attempts = self._attempts()
        memory = student_memory(attempts)
        request = self._request(day, memory)
        plan = make_plan(at_pace(self.concepts, self._pace(attempts, day)), study_states(attempts, memory), request).items
        items = [item for item in plan if not item.forecast]
        if minutes and day == max(self.told_minutes):
            self.forecast = frozenset(item.concept_id for item in plan if item.forecast)
        for item in items:
            self.planned[day, item.concept_id] = item.minutes
        return [Planned(item.concept_id, item.minutes) for item in items]

    def _request(self, day: int, memory: float) -> PlanRequest:
        exam = None if self.exam_day is None else _date(self.exam_day)
        week = [self._minutes_on(day, day + ahead) for ahead in range(WEEK_DAYS)]
        until = next((ahead for ahead in range(1, WEEK_DAYS) if week[ahead]), WEEK_DAYS)
        by_weekday = {_date(day + ahead).weekday(): minutes for ahead, minutes in enumerate(week)}
        return PlanRequest(
            today=_date(day),
            exam_on=exam,
            minutes_by_weekday=tuple(by_weekday.get(weekday, 0) for weekday in range(WEEK_DAYS)),
            horizon_days=until + 1,
            memory=memory,
            recaps=False,
            planned_before={_date(day): self.expected} if self.keeps else {},
        )

    def _minutes_on(self, today: int, day: int) -> int:
        """Today's minutes, and on a day to come what there were on that day of the week so far; those of today until a week has gone by."""
        first = min(self.told_minutes)
        before = range(day - WEEK_DAYS, max(first, day - WEEKS_LOOKED_AT * WEEK_DAYS) - 1, -WEEK_DAYS)
        if day == today or not before:
            return self.told_minutes[today]
        return round(sum(self.told_minutes.get(past, 0) for past in before) / len(before))

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

    def _pace(self, attempts: Sequence[FoldedAttempt], today: int) -> float:
        """By what the answers of the items of days gone by took, short reviews left aside; today's may not be done yet."""
        given = Counter((a.answered_at_ms // DAY_MS, a.question_id) for a in attempts if a.answered_at_ms is not None)
        told = [
            (minutes, given[key]) for key, minutes in self.planned.items() if key[0] < today and minutes > REVIEW_MINUTES and given[key]
        ]
        return pace(sum(minutes for minutes, _ in told), sum(count for _, count in told))


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=min(max(day, 0), DAY_MAX))
