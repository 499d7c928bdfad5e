"""Study plans of a device: made by domain/planner.py from what is stored, kept through LocalRecords, read for the API."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import msgspec

from daemon.attempts import folded_attempts
from daemon.course import concept_nodes
from daemon.database import DeviceDatabase
from daemon.models import StudyPlan, StudyPlanItem
from daemon.records import LocalRecords, NewPlanItem
from domain.clock import Clock
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import Id
from domain.planner import Forecast, PlanRequest, make_plan, study_states

# A student who has not said otherwise has this much time a day.
MINUTES_A_DAY_DEFAULT = 30
HORIZON_DAYS_DEFAULT = 14
# Items of one plan; each is an operation of its own on its way to school.
ITEMS_MAX = 2_000
# Concepts that a stored forecast names as left out, the most valuable first.
LEFT_OUT_MAX = 50


@dataclass(frozen=True, slots=True)
class Wish:
    """What a student asks a plan to be: so many days from today, without these days and concepts."""

    horizon_days: int = HORIZON_DAYS_DEFAULT
    days_off: frozenset[date] = frozenset()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Situation:
    """A student's now: UTC ms, and what the clock on the wall is ahead of UTC."""

    now_ms: int
    utc_offset_ms: int

    @property
    def today(self) -> date:
        return date(1970, 1, 1) + timedelta(milliseconds=self.now_ms + self.utc_offset_ms)

    @property
    def day_starts_at_ms(self) -> int:
        """Midnight on the student's clock."""
        return self.now_ms - (self.now_ms + self.utc_offset_ms) % (24 * 60 * 60 * 1000)


def situation(clock: Clock) -> Situation:
    """Now, in the time zone of this machine, which is taken for the student's."""
    now_ms = clock.now_ms()
    offset = datetime.fromtimestamp(now_ms / 1000).astimezone().utcoffset() or timedelta()
    return Situation(now_ms, int(offset.total_seconds() * 1000))


def make(database: DeviceDatabase, records: LocalRecords, student_id: Id, wish: Wish, now: Situation) -> None:
    """Plans from today and stores the plan, which then counts. Raises InvalidInput for a plan that would get too long."""
    with database.read() as conn:
        nodes, study = concept_nodes(conn), study_states(folded_attempts(conn, student_id))
        request = plan_request(conn, student_id, wish, now)
    plan = make_plan(nodes, study, request)
    if len(plan.items) > ITEMS_MAX:
        raise InvalidInput([Problem("$.horizon_days", "too_long", f"A plan has at most {ITEMS_MAX} items: ask for fewer days.")])
    row = {
        "starts_on": now.today.isoformat(),
        "days": wish.horizon_days,
        "planner_version": plan.version,
        "forecast": _stored_forecast(plan.forecast),
    }
    items = [NewPlanItem(Id(i.concept_id), i.day.isoformat(), i.kind.value, i.minutes, i.reason) for i in plan.items]
    records.add_plan(student_id, row, items)


def plan_request(conn: sqlite3.Connection, student_id: Id, wish: Wish, now: Situation) -> PlanRequest:
    """What to plan for a student, by the profile; inside the caller's read."""
    row = conn.execute("SELECT exam_on, available_minutes FROM student_profiles WHERE id = ?", (student_id,)).fetchone()
    exam_on, minutes = row or (None, None)
    return PlanRequest(
        today=now.today,
        exam_on=date.fromisoformat(exam_on) if exam_on else None,
        minutes_by_weekday=tuple(msgspec.json.decode(minutes)) if minutes else (MINUTES_A_DAY_DEFAULT,) * 7,
        horizon_days=wish.horizon_days,
        days_off=wish.days_off,
        excluded=wish.excluded,
        utc_offset_ms=now.utc_offset_ms,
    )


def newest(database: DeviceDatabase, student_id: Id) -> tuple[StudyPlan, list[StudyPlanItem]] | None:
    """The plan that counts and its items in order; None before the first."""
    plans = StudyPlan.select().where(StudyPlan.student_id == student_id).order_by(StudyPlan.created_at_ms.desc(), StudyPlan.id.desc())
    with database.read():
        plan = plans.first()
        if plan is None:
            return None
        items = StudyPlanItem.select().where(StudyPlanItem.plan_id == plan.id).order_by(StudyPlanItem.day, StudyPlanItem.position)
        return plan, list(items)


def item(database: DeviceDatabase, item_id: Id) -> StudyPlanItem:
    """One plan item. Raises NotFound."""
    with database.read():
        found = StudyPlanItem.get_or_none(StudyPlanItem.id == item_id)
    if found is None:
        raise NotFound("There is no such plan item.")
    return found


def _stored_forecast(forecast: Forecast) -> dict[str, object]:
    return {
        "minutes_planned": forecast.minutes_planned,
        "learnt_share": forecast.learnt_share,
        "recall_share": forecast.recall_share,
        "left_out": list(forecast.left_out[:LEFT_OUT_MAX]),
        "left_out_count": len(forecast.left_out),
        "summary": forecast.summary,
    }
