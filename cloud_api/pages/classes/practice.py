"""Time on task and learning curves as a page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_api.analytics.days import day_text
from cloud_api.analytics.rows import CurveRow, DataAge, DayRow, TimeRow
from cloud_api.pages.classes.words import day, day_name
from domain.counted import counted
from domain.learning.analytics.plan_standing import IDLE_WINDOW_DAYS, MINUTE_MS, PlanStanding
from domain.learning.analytics.student import DayFigures
from domain.learning.attempts import DAY_MS

# Curves on the page; the CSV has all.
CURVES_MAX = 60
_IDLE = DayFigures(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Days:
    """The last four weeks, a value for each day, oldest first; `names` say each in words. `proficient` counts concepts after each day."""

    minutes: Sequence[float]
    names: Sequence[str]
    proficient: Sequence[int]
    answers: int
    right: int

    @property
    def total_minutes(self) -> int:
        return round(sum(self.minutes))

    @property
    def active(self) -> int:
        """Days with any time on task."""
        return sum(m > 0 for m in self.minutes)

    @property
    def label(self) -> str:
        """The minutes as a sentence."""
        return f"{counted(self.total_minutes, 'minute')} on {self.active} of {len(self.minutes)} days"


@dataclass(frozen=True, slots=True)
class TimeLine:
    """A student's time, and standing to the plan. `done_share`: of the minutes that were due; None where none were."""

    student_id: str
    name: str
    days: Days
    standing: PlanStanding
    age: DataAge

    @property
    def done_share(self) -> float | None:
        due = self.standing.due_minutes
        return self.standing.done_minutes / due if due else None


def time_lines(rows: Sequence[TimeRow], now_ms: int) -> list[TimeLine]:
    """A line for each student, by name."""
    return [TimeLine(row.student_id, row.display_name, days_of(row.days, now_ms), row.standing, row.data_age) for row in rows]


def busiest(lines: Sequence[TimeLine]) -> float:
    """The most minutes that any student spent on a day: the scale that all rows share."""
    return max((minutes for line in lines for minutes in line.days.minutes), default=0.0)


def days_of(rows: Sequence[DayRow], now_ms: int) -> Days:
    """The days up to today, with those on which nothing was answered."""
    known = {row.day: row.figures for row in rows}
    today = now_ms // DAY_MS
    days = [day_text(n) for n in range(today - IDLE_WINDOW_DAYS + 1, today + 1)]
    figures = [known.get(text, _IDLE) for text in days]
    minutes = [f.active_ms / MINUTE_MS for f in figures]
    names = [f"{day_name(text)}: {m:.0f} min, {counted(f.answers, 'answer')}" for text, m, f in zip(days, minutes, figures, strict=True)]
    return Days(minutes, names, _carried(figures), sum(f.answers for f in figures), sum(f.right for f in figures))


def first_day(now_ms: int) -> str:
    """The first of the days of `days_of`."""
    return day(now_ms // DAY_MS - IDLE_WINDOW_DAYS + 1)


def curve_label(row: CurveRow) -> str:
    """A learning curve in words."""
    points = row.figures.points
    first, last = points[0], points[-1]
    if len(points) == 1:
        return f"{first.error:.0%} of {counted(first.students, 'student')} wrong at the first answer"
    return f"wrong at answer 1: {first.error:.0%} of {counted(first.students, 'student')}; at answer {last.opportunity}: {last.error:.0%} of {last.students}"


def gave_up(row: CurveRow) -> tuple[int, int]:
    """(how many stopped before the curve ends, how many of these with a wrong answer)."""
    return sum(p.stopped for p in row.figures.points), sum(p.stopped_wrong for p in row.figures.points)


def _carried(figures: Sequence[DayFigures]) -> list[int]:
    """Concepts at proficient after each day; an idle day changes nothing. Days before the first answer of the four weeks are left out."""
    carried: list[int] = []
    for of_day in figures:
        if of_day.answers or carried:
            carried.append(of_day.proficient if of_day.answers else carried[-1])
    return carried
