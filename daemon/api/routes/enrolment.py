"""POST /enrol: the command line makes this a device of a school."""

from __future__ import annotations

from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.schemas.access import Enrolled, NewEnrolment
from domain.errors import CloudUnreachable, Conflict
from domain.ids import dashed


def enrol(call: Call) -> Answer:
    body: NewEnrolment = call.body
    identity = call.device.identity.enrol(body.cloud_url, body.code, body.name)
    return Answer(Enrolled(dashed(identity.device_id), dashed(identity.school_id), identity.school_name), 201)


ENDPOINTS = (
    Endpoint(
        "POST", "/enrol", enrol, "Enrol this device with a one-time code.", {201: Enrolled}, Access.CONTROL,
        body=NewEnrolment, errors=(Conflict, CloudUnreachable),
    ),
)  # fmt: skip
