"""Signing in and out: GET /students, POST and DELETE /sessions."""

from __future__ import annotations

import flask

from daemon import schemas, sessions
from daemon.endpoints import Access, Answer, Call, Endpoint
from domain.errors import NotFound
from domain.ids import dashed, parse_id


def list_students(call: Call) -> Answer:
    return Answer(schemas.Students([_student(s) for s in sessions.students(call.device.database)]))


def sign_in(call: Call) -> Answer:
    wanted: schemas.NewSession = call.body
    student_id = parse_id(wanted.student_id) if wanted.student_id else None
    session = sessions.start(call.device, student_id, wanted.username)
    return Answer(schemas.Session(session.token, _student(session.student), session.expires_at_ms), 201)


def sign_out(call: Call) -> Answer:
    sessions.end(call.device.database, sessions.bearer(flask.request.headers.get("Authorization")))
    return Answer(status=204)


def _student(student: sessions.Student) -> schemas.Student:
    return schemas.Student(dashed(student.id), student.username, student.display_name)


ENDPOINTS = (
    Endpoint("GET", "/students", list_students, "The students on this device, to pick from.", {200: schemas.Students}, Access.OPEN),
    Endpoint(
        "POST", "/sessions", sign_in, "Sign a student in.", {201: schemas.Session}, Access.OPEN,
        body=schemas.NewSession, body_optional=True, errors=(NotFound,),
    ),
    Endpoint("DELETE", "/sessions", sign_out, "Sign out: the token ends.", {204: None}),
)  # fmt: skip
