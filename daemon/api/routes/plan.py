"""The signed-in student's study plan: GET and POST /plan, PATCH /plan/items/{id}."""

from __future__ import annotations

from datetime import date

import msgspec

from daemon.api.endpoints import Answer, Call, Endpoint
from daemon.api.intake import INVALID_VALUE, MISSING_FIELD
from daemon.api.schemas.paging import OwnQuery
from daemon.api.schemas.study import IgnoredPrerequisite, NewPlan, Plan, PlanChange, PlanItem, PlanItemChange
from daemon.learning import plan_making, plans
from daemon.learning.plan_notes import read_notes
from daemon.learning.situation import situation
from daemon.models import study as stored
from domain.errors import InvalidInput, NotFound, PlanSuperseded, Problem
from domain.ids import Id, dashed, parse_id


def show(call: Call) -> Answer:
    return Answer(_standing(call))


def make(call: Call) -> Answer:
    body: NewPlan = call.body
    wish = plans.Wish(
        horizon_days=body.horizon_days,
        days_off=frozenset(map(date.fromisoformat, body.days_off)),
        excluded=frozenset(map(parse_id, body.exclude)),
    )
    plan_making.make(call.device.engine, call.student_id, wish, situation(call.device.clock))
    return Answer(_standing(call), 201)


def change_item(call: Call) -> Answer:
    change: PlanItemChange = call.body
    if change.status == plans.MOVED and change.moved_to is None:
        raise InvalidInput([Problem("$.moved_to", MISSING_FIELD, "A moved item needs the day it is moved to.")])
    if change.status != plans.MOVED and change.moved_to is not None:
        raise InvalidInput([Problem("$.moved_to", INVALID_VALUE, "Only a moved item has a day it is moved to.")])
    engine, now = call.device.engine, situation(call.device.clock)
    if change.moved_to is not None and date.fromisoformat(change.moved_to) < now.today:
        raise InvalidInput([Problem("$.moved_to", INVALID_VALUE, "This day is over: move the item to today or to a later one.")])
    plan, item = plan_making.mark(engine, call.student_id, call.row_id, change.status, change.moved_to, now)
    return Answer(_item(plan, item))


def _standing(call: Call) -> Plan:
    found = plan_making.standing(call.device.engine, call.student_id, situation(call.device.clock))
    if found is None:
        raise NotFound("There is no plan yet.")
    plan, notes = found.plan, read_notes(found.plan.notes)
    return Plan(
        id=dashed(plan.id),
        created_at_ms=plan.created_at_ms,
        starts_on=plan.starts_on,
        days=plan.days,
        planner_version=plan.planner_version,
        forecast=_forecast(plan.forecast),
        days_off=notes.days_off,
        excluded=[dashed(concept) for concept in notes.excluded],
        changes=[PlanChange(dashed(c.concept_id), c.kind, c.what, c.was, c.now, c.why) for c in notes.changes],
        changes_count=notes.changes_count,
        ignored=[IgnoredPrerequisite(dashed(i.concept_id), dashed(i.prerequisite_id), i.why) for i in notes.ignored],
        ignored_count=notes.ignored_count,
        items=[_item(found, item) for item in found.items],
    )


def _forecast(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    forecast: dict[str, object] = msgspec.json.decode(text)
    left_out = forecast.get("left_out")
    if isinstance(left_out, list):
        forecast["left_out"] = [dashed(Id(c)) for c in left_out]
    return forecast


def _item(plan: plans.StandingPlan, row: stored.StudyPlanItem) -> PlanItem:
    return PlanItem(
        id=dashed(row.id),
        concept_id=dashed(row.concept_id),
        day=row.day,
        position=row.position,
        kind=row.kind,
        minutes=row.minutes,
        reason=row.reason,
        status=plan.status(row),
        moved_to=row.moved_to,
        by_answers=plan.done_by_answers(row),
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/plan",
        show,
        "The study plan that counts, made anew on the first look of a day.",
        {200: Plan},
        query=OwnQuery,
        errors=(NotFound,),
    ),
    Endpoint("POST", "/plan", make, "Make a new plan, from today.", {201: Plan}, body=NewPlan, body_optional=True, errors=(NotFound,)),
    Endpoint(
        "PATCH",
        "/plan/items/<id>",
        change_item,
        "Mark an item of the plan that counts as done, skipped, moved or planned.",
        {200: PlanItem},
        body=PlanItemChange,
        errors=(PlanSuperseded,),
    ),
)
