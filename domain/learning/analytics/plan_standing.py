"""How a student stands to the study plan: what was due, what was done, what was left; and the time that was spent meanwhile.

Days are counted from 1970-01-01. Plan days are the student's own, times of answers are UTC: near midnight an answer may fall on the day before or after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from domain.learning.analytics.student import DayFigures, StudentFigures
from domain.learning.attempts import DAY_MS
from domain.learning.plan import Kind
from domain.learning.plan_progress import Since, done_by_answers
from domain.learning.recall import StudyState

# Days before today that are looked at; and for how far back planned days without an answer are counted.
WINDOW_DAYS, IDLE_WINDOW_DAYS = 14, 28
# Off plan: less than this share of the minutes due was done, and at least so many minutes were due.
OFF_PLAN_SHARE, OFF_PLAN_MINUTES_MIN = 0.5, 20
MINUTE_MS = 60_000


class PlannedItem(NamedTuple):
    """An item of the plan that counted on its day. `status` is planned, done, skipped or moved; `day` is where it was moved to."""

    day: int
    minutes: int
    status: str
    kind: str
    concept_id: str
    plan_made_at_ms: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanStanding:
    """Minutes of the last WINDOW_DAYS days, today not counted: due, done, and skipped by choice; `spent_minutes` is time on task, on whatever.

    `overdue_items` are neither done nor skipped, the oldest of them of day `behind_since`. `idle_planned_days` counts planned days without any answer, up to yesterday, since the last answer.
    """

    due_minutes: int
    done_minutes: int
    skipped_minutes: int
    spent_minutes: int
    overdue_items: int
    idle_planned_days: int
    behind_since: int | None = None

    @property
    def behind_minutes(self) -> int:
        return self.due_minutes - self.done_minutes

    @property
    def off_plan(self) -> bool:
        return self.due_minutes >= OFF_PLAN_MINUTES_MIN and self.done_minutes < OFF_PLAN_SHARE * self.due_minutes


def plan_standing(items: Iterable[PlannedItem], figures: StudentFigures, today: int) -> PlanStanding:
    """From the items of the last IDLE_WINDOW_DAYS days and the student's answers, which do items without anybody ticking them off."""
    days = figures.days
    past = [as_answered(item, figures) for item in items if today - IDLE_WINDOW_DAYS <= item.day < today]
    due = [item for item in past if item.day >= today - WINDOW_DAYS]
    left = [item.day for item in due if item.status not in ("done", "skipped")]
    active = [day for day, of_day in days.items() if of_day.answers and day <= today]
    idle_from = max(active, default=-1)

    def minutes(status: str) -> int:
        return sum(item.minutes for item in due if item.status == status)

    return PlanStanding(
        sum(item.minutes for item in due),
        minutes("done"),
        minutes("skipped"),
        spent_ms(days, today - WINDOW_DAYS, today - 1) // MINUTE_MS,
        len(left),
        len({item.day for item in past if item.day > idle_from}),
        min(left, default=None),
    )


def spent_ms(days: Mapping[int, DayFigures], first: int, last: int) -> int:
    """Time on task from day `first` to day `last`, both included."""
    return sum(of_day.active_ms for day, of_day in days.items() if first <= day <= last)


def as_answered(item: PlannedItem, figures: StudentFigures) -> PlannedItem:
    """The item, done where answers did it (domain/learning/plan_progress.py)."""
    known = figures.concepts.get(item.concept_id)
    if known is None or item.status in ("done", "skipped"):
        return item
    state = StudyState(known.run_right, float(known.learnt), figures.state.concepts[item.concept_id].last_at_ms)
    since = Since(item.plan_made_at_ms, item.day * DAY_MS)
    kind = Kind.NEW if item.kind == Kind.NEW else Kind.REVIEW
    return item._replace(status="done") if done_by_answers(kind, state, since, item.reason) else item
