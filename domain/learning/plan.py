"""A study plan as a value: what is asked for, and what comes out. Days are counted from 1970-01-01 inside; a date is its midnight on the student's clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from math import isfinite
from typing import NamedTuple

from domain.errors import InvalidInput, Problem
from domain.learning.prerequisites import IgnoredPrerequisite

# Changes with the rules and constants of the planner; stored beside every plan.
PLANNER_VERSION = "marginal-gain-3"

HORIZON_DAYS_MAX = 400
# Days that a forecast is rolled forward at most; of an exam after them it says nothing. Some 3 ms each for 200 concepts.
FORECAST_DAYS_MAX = 180
MINUTES_A_DAY_MAX = 24 * 60
RECALL_HORIZON_DAYS = 30  # without an exam, what is studied on a day should be recalled this long after it
REVIEW_MINUTES, LEARN_MINUTES = 2, 6  # one answer; the three in a row that make a concept learnt
# How the reason of an item begins that a pin brought about.
PINNED, NEEDED_FOR_PIN = "pinned by ", "needed for what "
# How the reason ends of an item that is only a part of what a new concept takes.
GOES_ON = "; goes on another day"
_EPOCH = date(1970, 1, 1)


class Kind(StrEnum):
    NEW = "new"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class ConceptNode:
    """A concept of the syllabus: its weight in the exam (any unit; all zero means all equal), what must be learnt before it, and its place in the
    order in which the course is taught, which breaks ties."""

    id: str
    weight: float
    prerequisites: tuple[str, ...] = ()
    minutes_to_learn: int = LEARN_MINUTES
    position: int = 0


class Pin(NamedTuple):
    """Somebody's word that a concept is to be studied on a day, or (`on` is None) as soon as there is time. `by` is who, as the student is told."""

    concept_id: str
    on: date | None = None
    by: str = "your teacher"


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to plan. `minutes_by_weekday` is Monday first; nothing is planned on `days_off`, on the exam day or after it.

    An exam before `today` counts as none. Concepts in `excluded` are neither planned nor counted; those in `pinned` come first, after what
    they need. `utc_offset_ms` is what the student's clock is ahead of UTC, `memory` what `memory.StudyFold` makes of the answers (the states
    given with the request should be made with the same). `recaps` lets short reviews part new concepts (domain/learning/sittings.py). Of today's minutes
    `minutes_used` are gone; concepts in `postponed` are not planned before their day, unless they are pinned. `planned_before` is what the plan before had
    for today and later days, which is kept where little is lost by it. Raises InvalidInput.
    """

    today: date
    exam_on: date | None
    minutes_by_weekday: tuple[int, ...]
    horizon_days: int
    days_off: frozenset[date] = frozenset()
    excluded: frozenset[str] = frozenset()
    utc_offset_ms: int = 0
    pinned: tuple[Pin, ...] = ()
    memory: float = 1.0
    recaps: bool = True
    minutes_used: int = 0
    postponed: Mapping[str, date] = field(default_factory=dict)
    planned_before: Mapping[date, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if len(self.minutes_by_weekday) != 7 or not all(0 <= m <= MINUTES_A_DAY_MAX for m in self.minutes_by_weekday):
            message = f"Seven numbers of minutes from 0 to {MINUTES_A_DAY_MAX} are needed, Monday first."
            problems.append(Problem("$.minutes_by_weekday", "out_of_range", message))
        if not 1 <= self.horizon_days <= HORIZON_DAYS_MAX:
            problems.append(Problem("$.horizon_days", "out_of_range", f"The horizon is 1 to {HORIZON_DAYS_MAX} days."))
        if problems:
            raise InvalidInput(problems)

    @property
    def coming_exam(self) -> date | None:
        return None if self.exam_on is None or self.exam_on < self.today else self.exam_on

    def study_days(self) -> Iterator[tuple[date, int]]:
        """The days with time to study, and their minutes."""
        exam = self.coming_exam
        yield from self._study_days(self.horizon_days if exam is None else min(self.horizon_days, (exam - self.today).days))

    def minutes_until_exam(self) -> int:
        """All minutes before the exam, as far as plans may reach; without an exam, those of the time after which things should be recalled."""
        exam = self.coming_exam
        length = RECALL_HORIZON_DAYS if exam is None else min(HORIZON_DAYS_MAX, (exam - self.today).days)
        return sum(minutes for _, minutes in self._study_days(max(length, self.horizon_days if exam is None else 0)))

    def _study_days(self, length: int) -> Iterator[tuple[date, int]]:
        for day in (self.today + timedelta(days=n) for n in range(length)):
            minutes = self.minutes_by_weekday[day.weekday()] - (self.minutes_used if day == self.today else 0)
            if minutes > 0 and day not in self.days_off:
                yield day, minutes

    def recall_on(self, day: date) -> int:
        """The day number on which what is studied on `day` should be recalled."""
        return day_number(self.coming_exam or day + timedelta(days=RECALL_HORIZON_DAYS))


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing to do. Items of a day stand in order, `block` counts its sittings from 0, `forecast` marks days after the first."""

    day: date
    concept_id: str
    kind: Kind
    minutes: int
    reason: str
    block: int = 0
    forecast: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where the plan leads if every review ends right and every new concept is learnt. Shares are of the exam's weight.

    `learnt_share` is what is learnt by then, `recall_share` what is recalled of it on exam day, `left_out` the rest, heaviest first.
    """

    minutes_planned: int
    learnt_share: float
    recall_share: float
    left_out: tuple[str, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Days from today on, in order. `blocked` are the concepts that cannot be planned because they need an excluded one."""

    items: tuple[PlanItem, ...]
    forecast: Forecast
    ignored: tuple[IgnoredPrerequisite, ...]
    blocked: frozenset[str] = frozenset()
    version: str = PLANNER_VERSION


def day_number(day: date) -> int:
    return (day - _EPOCH).days


def check_concepts(concepts: Sequence[ConceptNode]) -> None:
    """Raises InvalidInput, with all problems, for a syllabus that cannot be."""
    problems, seen = [], set()
    for n, node in enumerate(concepts):
        if not (isfinite(node.weight) and node.weight >= 0):
            problems.append(Problem(f"$.concepts[{n}].weight", "out_of_range", "A weight is a number from 0 up."))
        if not 1 <= node.minutes_to_learn <= MINUTES_A_DAY_MAX:
            problems.append(Problem(f"$.concepts[{n}].minutes_to_learn", "out_of_range", f"1 to {MINUTES_A_DAY_MAX} minutes."))
        if node.id in seen:
            problems.append(Problem(f"$.concepts[{n}].id", "duplicate", "This concept is given twice."))
        seen.add(node.id)
    if problems:
        raise InvalidInput(problems)
