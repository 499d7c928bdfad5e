"""Students' study plans as class figures need them: what was due on each day, and where the newest plan leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cloud_api.analytics.days import day_number, day_text
from cloud_api.analytics.rows import ComingItem
from cloud_api.database import Cursor
from domain.learning.analytics.plan_standing import IDLE_WINDOW_DAYS, PlannedItem, as_answered
from domain.learning.analytics.student import StudentFigures
from domain.learning.attempts import DAY_MS
from domain.learning.plan import FORECAST_DAYS_MAX

# Of what is planned, days and items that are shown.
COMING_DAYS, COMING_MAX = 7, 40
# A plan made later than so much from now has its time from a wrong clock, and counts only while there is no other.
CLOCK_AHEAD_MAX_MS = DAY_MS

# A plan counts from its first day up to that of the next one.
_ITEMS = """
SELECT i.student_id, coalesce(i.moved_to, i.day), i.minutes, i.status, i.kind, i.concept_id, p.created_at_ms, i.reason
  FROM (SELECT p.id, p.student_id, p.starts_on, p.created_at_ms, lead(p.starts_on) OVER (PARTITION BY p.student_id ORDER BY p.created_at_ms, p.id) AS ends_before
          FROM study_plans p
         WHERE p.school_id = %(school)s AND p.student_id = ANY(%(students)s::uuid[])) AS p
  JOIN study_plan_items i ON i.school_id = %(school)s AND i.plan_id = p.id AND i.student_id = p.student_id
 WHERE (p.ends_before IS NULL OR (p.ends_before > %(first)s AND i.day < p.ends_before)) AND i.day >= p.starts_on
   AND coalesce(i.moved_to, i.day) >= %(first)s AND coalesce(i.moved_to, i.day) < %(today)s
"""

_COMING = """
SELECT coalesce(i.moved_to, i.day), i.minutes, i.status, i.kind, i.concept_id, p.created_at_ms, i.reason
  FROM (SELECT id, created_at_ms FROM study_plans WHERE school_id = %(school)s AND student_id = %(student)s
         ORDER BY created_at_ms > %(sound)s, created_at_ms DESC, id DESC LIMIT 1) AS p
  JOIN study_plan_items i ON i.school_id = %(school)s AND i.plan_id = p.id AND i.student_id = %(student)s
 WHERE coalesce(i.moved_to, i.day) BETWEEN %(today)s AND %(last)s
 ORDER BY 1, i.position LIMIT %(most)s
"""

_FORECASTS = """
SELECT DISTINCT ON (p.student_id) p.student_id, p.forecast, p.starts_on, s.exam_on
  FROM study_plans p JOIN student_profiles s ON s.school_id = p.school_id AND s.id = p.student_id
 WHERE p.school_id = %(school)s AND p.student_id = ANY(%(students)s::uuid[]) AND s.exam_on >= %(today)s
 ORDER BY p.student_id, p.created_at_ms > %(sound)s, p.created_at_ms DESC, p.id DESC
"""


def items_that_counted(cursor: Cursor, school_id: str, students: Sequence[str], today: int) -> dict[str, list[PlannedItem]]:
    """The items of the last IDLE_WINDOW_DAYS days before `today` (days since 1970-01-01), by student."""
    keys = {"school": school_id, "students": list(students), "first": day_text(today - IDLE_WINDOW_DAYS), "today": day_text(today)}
    cursor.execute(_ITEMS, keys)
    items: dict[str, list[PlannedItem]] = {student: [] for student in students}
    for student, day, *rest in cursor.fetchall():
        items[student].append(PlannedItem(day_number(day), *rest))
    return items


def coming_items(cursor: Cursor, school_id: str, student_id: str, figures: StudentFigures, now_ms: int) -> list[ComingItem]:
    """What the newest plan has for the next COMING_DAYS days, with what has become of it; at most COMING_MAX items."""
    today = now_ms // DAY_MS
    keys = {
        "school": school_id,
        "student": student_id,
        "sound": now_ms + CLOCK_AHEAD_MAX_MS,
        "today": day_text(today),
        "last": day_text(today + COMING_DAYS - 1),
        "most": COMING_MAX,
    }
    cursor.execute(_COMING, keys)
    coming = []
    for day, *item in cursor.fetchall():
        known = as_answered(PlannedItem(day_number(day), *item), figures)
        coming.append(ComingItem(day, known.concept_id, known.kind, known.minutes, known.reason, known.status))
    return coming


class Ahead(NamedTuple):
    """What a plan says of the exam: the share of its weight that will be learnt, and concepts left out, the most valuable of them."""

    learnt_share: float | None
    left_out: frozenset[str]


def forecasts(cursor: Cursor, school_id: str, students: Sequence[str], now_ms: int) -> dict[str, Ahead]:
    """The forecasts of the students' newest plans; of those whose plan looks ahead as far as an exam.

    Without an exam a plan is one of some days, and what it reaches says nothing about the student.
    """
    keys = {"school": school_id, "students": list(students), "today": day_text(now_ms // DAY_MS), "sound": now_ms + CLOCK_AHEAD_MAX_MS}
    cursor.execute(_FORECASTS, keys)
    return {
        student: _ahead(forecast)
        for student, forecast, starts_on, exam_on in cursor.fetchall()
        if day_number(exam_on) <= day_number(starts_on) + FORECAST_DAYS_MAX and isinstance(forecast, dict)
    }


def _ahead(forecast: Mapping[str, Any]) -> Ahead:
    """A forecast comes from a device: it may hold anything that is JSON."""
    share, left_out = forecast.get("learnt_share"), forecast.get("left_out")
    known = float(share) if isinstance(share, int | float) and 0 <= share <= 1 else None
    return Ahead(known, frozenset(c for c in left_out if isinstance(c, str)) if isinstance(left_out, list) else frozenset())
