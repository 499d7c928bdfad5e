"""The signed-in student: GET /me, PATCH /me/profile."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

import msgspec

from daemon import content
from daemon.api.endpoints import Answer, Call, Endpoint
from daemon.api.intake import INVALID_VALUE, MISSING_FIELD
from daemon.api.schemas.paging import OwnQuery
from daemon.api.schemas.people import Class, Me, Profile, ProfileChange
from daemon.learning.situation import situation
from daemon.models.people import StudentProfile
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import dashed


def show(call: Call) -> Answer:
    user, profile, classes = content.student(call.device.database, call.student_id)
    in_classes = [Class(dashed(c.id), c.name) for c in classes]
    return Answer(Me(dashed(user.id), user.username, user.display_name, in_classes, _profile(profile)))


def change_profile(call: Call) -> Answer:
    change: ProfileChange = call.body
    fields = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET}
    if not fields:
        raise InvalidInput([Problem("$", MISSING_FIELD, "Say which field to change.")])
    if change.exam_on and date.fromisoformat(change.exam_on) < situation(call.device.clock).today:
        raise InvalidInput([Problem("$.exam_on", INVALID_VALUE, "This day is over: give a coming one, or null when no exam is to come.")])
    call.device.records.update_profile(call.student_id, fields)
    _, profile, _ = content.student(call.device.database, call.student_id)
    return Answer(_profile(profile))


def _profile(row: StudentProfile | None) -> Profile:
    if row is None:
        return Profile(None, None, None, None)
    return Profile(row.grade, row.exam_on, _decoded(row.available_minutes), _decoded(row.days_off))


def _decoded(text: str | None) -> Any:
    return msgspec.json.decode(text) if text else None


ENDPOINTS = (
    Endpoint("GET", "/me", show, "Who is signed in, with classes and profile.", {200: Me}, query=OwnQuery, errors=(NotFound,)),
    Endpoint(
        "PATCH",
        "/me/profile",
        change_profile,
        "Change one's profile.",
        {200: Profile},
        body=Annotated[ProfileChange, msgspec.Meta(extra_json_schema={"minProperties": 1})],
        errors=(NotFound,),
    ),
)
