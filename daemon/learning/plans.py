"""Study plans as they are stored: the one that counts, its items, and what has become of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from daemon.database import DeviceDatabase
from daemon.learning.plan_inputs import HORIZON_DAYS_DEFAULT, Wish
from daemon.learning.situation import Situation, situation
from daemon.models.study import StudyPlan, StudyPlanItem
from domain.errors import NotFound
from domain.ids import Id
from domain.learning.plan_progress import Since, done_by_answers
from domain.learning.planner import Kind, PlanItem, StudyState

__all__ = [
    "DONE", "HORIZON_DAYS_DEFAULT", "MOVED", "PLANNED", "SKIPPED", "Situation", "StandingPlan", "Wish", "active_students", "item", "newest", "situation",
]  # fmt: skip

# So much a clock is set back now and then; the plan of a moment ago still counts.
CLOCK_STEP_MS = 10_000
# What a student may make of an item (domain/registry.py, PLAN_ITEM_STATES).
PLANNED, DONE, SKIPPED, MOVED = "planned", "done", "skipped", "moved"


@dataclass(frozen=True, slots=True)
class StandingPlan:
    """The plan that counts, its items in order, and where the student stands with each concept."""

    plan: StudyPlan
    items: Sequence[StudyPlanItem]
    study: Mapping[str, StudyState]
    now: Situation

    def day_of(self, row: StudyPlanItem) -> date:
        """The day on which an item is to be done: the one it was moved to, if it was."""
        return date.fromisoformat(row.moved_to if row.status == MOVED and row.moved_to else row.day)

    def done_by_answers(self, row: StudyPlanItem) -> bool:
        """Whether answers have done an item that nobody has marked."""
        since = Since(self.plan.created_at_ms, self.now.starts_at_ms(self.day_of(row)))
        return row.status in (PLANNED, MOVED) and done_by_answers(Kind(row.kind), self.study.get(row.concept_id), since, row.reason)

    def status(self, row: StudyPlanItem) -> str:
        """What has become of an item: its mark, or `done` where answers have done it."""
        return DONE if self.done_by_answers(row) else str(row.status)

    def open_items(self) -> list[StudyPlanItem]:
        """What is still to do, in order."""
        return [row for row in self.items if self.status(row) in (PLANNED, MOVED)]

    def open_on(self, day: date) -> list[StudyPlanItem]:
        """The same of one day, with what was moved to it."""
        return [row for row in self.open_items() if self.day_of(row) == day]

    def as_planned(self, row: StudyPlanItem) -> PlanItem:
        """An item as the planner made it, on the day it is for now."""
        return PlanItem(self.day_of(row), row.concept_id, Kind(row.kind), row.minutes, row.reason)


def newest(database: DeviceDatabase, student_id: Id, now_ms: int, on: date | None = None) -> tuple[StudyPlan, list[StudyPlanItem]] | None:
    """The plan that counts and its items in order, with `on` only those planned for that day or moved to it; None before the first.

    A plan that a wrong clock made in the future counts only while there is no other. `now_ms` is the time as rows have it (LocalRecords.now_ms).
    """
    of_future = StudyPlan.created_at_ms > now_ms + CLOCK_STEP_MS
    plans = (
        StudyPlan.select()
        .where(StudyPlan.student_id == student_id)
        .order_by(of_future, StudyPlan.created_at_ms.desc(), StudyPlan.id.desc())
    )
    with database.read():
        plan = plans.first()
        if plan is None:
            return None
        items = StudyPlanItem.select().where(StudyPlanItem.plan_id == plan.id)
        if on is not None:
            items = items.where((StudyPlanItem.day == on.isoformat()) | (StudyPlanItem.moved_to == on.isoformat()))
        return plan, list(items.order_by(StudyPlanItem.day, StudyPlanItem.position))


def item(database: DeviceDatabase, item_id: Id) -> StudyPlanItem:
    """One plan item. Raises NotFound."""
    with database.read():
        found = StudyPlanItem.get_or_none(StudyPlanItem.id == item_id)
    if found is None:
        raise NotFound("There is no such plan item.")
    return found


def active_students(conn: sqlite3.Connection, today: date, now_ms: int, answered_since_ms: int, device_id: Id, limit: int) -> list[Id]:
    """At most `limit` students who have answered since, and whose plan was made by this device for another day than today; inside the caller's read."""
    rows = conn.execute(
        "SELECT p.student_id FROM study_plans p WHERE p.starts_on <> ? AND p.device_id = ? AND p.id ="
        " (SELECT id FROM study_plans n WHERE n.student_id = p.student_id ORDER BY created_at_ms > ?, created_at_ms DESC, id DESC LIMIT 1)"
        " AND EXISTS (SELECT 1 FROM question_attempts a WHERE a.student_id = p.student_id AND a.answered_at_ms >= ?)"
        " AND p.student_id IN (SELECT id FROM users WHERE retired_at_ms IS NULL)"  # nothing is written for anybody else
        " ORDER BY p.student_id LIMIT ?",
        (today.isoformat(), device_id, now_ms + CLOCK_STEP_MS, answered_since_ms, limit),
    )
    return [Id(row[0]) for row in rows]
