"""Signing in and out: GET /students, POST and DELETE /sessions; setting a student's PIN."""

from __future__ import annotations

import flask

from daemon.access.sessions import Student
from daemon.access.sign_in import PinNeed
from daemon.api.callers import bearer
from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.schemas import access as schemas
from domain.errors import NotSignedIn, RateLimited
from domain.ids import dashed, parse_id


def list_students(call: Call) -> Answer:
    return Answer(schemas.Students([_listed(student, need) for student, need in call.access.sign_in.students()]))


def sign_in(call: Call) -> Answer:
    wanted: schemas.NewSession = call.body
    if call.app is None:
        raise NotSignedIn()
    student_id = parse_id(wanted.student_id) if wanted.student_id else None
    session = call.access.sign_in.start(call.app, student_id, wanted.username, wanted.pin, wanted.password)
    return Answer(schemas.Session(session.token, _student(session.student), session.expires_at_ms), 201)


def sign_out(call: Call) -> Answer:
    call.access.sessions.end(bearer(flask.request.headers.get("Authorization")))
    return Answer(status=204)


def set_pin(call: Call) -> Answer:
    wanted: schemas.NewPin = call.body
    call.access.sign_in.set_pin(call.row_id, wanted.pin)
    return Answer(status=204)


def _student(student: Student) -> schemas.Student:
    return schemas.Student(dashed(student.id), student.username, student.display_name)


def _listed(student: Student, need: PinNeed) -> schemas.ListedStudent:
    return schemas.ListedStudent(dashed(student.id), student.username, student.display_name, need.value)


ENDPOINTS = (
    Endpoint(
        "GET", "/students", list_students, "The students on this device, to pick from.", {200: schemas.Students}, Access.APP_OR_CONTROL
    ),
    Endpoint(
        "POST", "/sessions", sign_in, "Sign a student in.", {201: schemas.Session}, Access.APP_OR_PAGE,
        body=schemas.NewSession, body_optional=True, errors=(RateLimited,),
    ),
    Endpoint("DELETE", "/sessions", sign_out, "Sign out: the token ends.", {204: None}),
    Endpoint("POST", "/students/<id>/pin", set_pin, "Set a student's PIN on this device.", {204: None}, Access.CONTROL,
             body=schemas.NewPin, errors=(RateLimited,)),
)  # fmt: skip
