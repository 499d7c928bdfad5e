"""The signed-in student's study plan: GET and POST /plan, PATCH /plan/items/{id}."""

from __future__ import annotations

from datetime import date

import msgspec

from daemon import models, plans
from daemon.endpoints import Answer, Call, Endpoint
from daemon.intake import INVALID_VALUE, MISSING_FIELD
from daemon.schemas import NewPlan, OwnQuery, Plan, PlanItem, PlanItemChange
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import Id, dashed, parse_id

MOVED = "moved"


def show(call: Call) -> Answer:
    return Answer(_newest(call))


def make(call: Call) -> Answer:
    body: NewPlan = call.body
    wish = plans.Wish(
        horizon_days=body.horizon_days,
        days_off=frozenset(map(date.fromisoformat, body.days_off)),
        excluded=frozenset(map(parse_id, body.exclude)),
    )
    plans.make(call.device.database, call.device.records, call.student_id, wish, plans.situation(call.device.clock))
    return Answer(_newest(call), 201)


def change_item(call: Call) -> Answer:
    change: PlanItemChange = call.body
    if change.status == MOVED and change.moved_to is None:
        raise InvalidInput([Problem("$.moved_to", MISSING_FIELD, "A moved item needs the day it is moved to.")])
    if change.status != MOVED and change.moved_to is not None:
        raise InvalidInput([Problem("$.moved_to", INVALID_VALUE, "Only a moved item has a day it is moved to.")])
    fields = {"status": change.status, "moved_to": change.moved_to}
    call.device.records.update_plan_item(call.student_id, call.row_id, fields)
    return Answer(_item(plans.item(call.device.database, call.row_id)))


def _newest(call: Call) -> Plan:
    found = plans.newest(call.device.database, call.student_id)
    if found is None:
        raise NotFound("There is no plan yet.")
    plan, items = found
    return Plan(
        id=dashed(plan.id),
        created_at_ms=plan.created_at_ms,
        starts_on=plan.starts_on,
        days=plan.days,
        planner_version=plan.planner_version,
        forecast=_forecast(plan.forecast),
        items=[_item(item) for item in items],
    )


def _forecast(text: str | None) -> dict[str, object] | None:
    if text is None:
        return None
    forecast: dict[str, object] = msgspec.json.decode(text)
    left_out = forecast.get("left_out")
    if isinstance(left_out, list):
        forecast["left_out"] = [dashed(Id(c)) for c in left_out]
    return forecast


def _item(row: models.StudyPlanItem) -> PlanItem:
    return PlanItem(
        id=dashed(row.id),
        concept_id=dashed(row.concept_id),
        day=row.day,
        position=row.position,
        kind=row.kind,
        minutes=row.minutes,
        reason=row.reason,
        status=row.status,
        moved_to=row.moved_to,
    )


ENDPOINTS = (
    Endpoint("GET", "/plan", show, "The study plan that counts: the newest.", {200: Plan}, query=OwnQuery, errors=(NotFound,)),
    Endpoint("POST", "/plan", make, "Make a new plan, from today.", {201: Plan}, body=NewPlan, body_optional=True, errors=(NotFound,)),
    Endpoint(
        "PATCH", "/plan/items/<id>", change_item, "Mark an item as done, skipped, moved or planned.", {200: PlanItem}, body=PlanItemChange
    ),
)
