"""POST and DELETE /v1/sessions: teachers and administrators sign in and out. POST /v1/devices/password: a student, through a device."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import (
    Doorkeeper,
    credential,
    csrf_token,
    demand_own_origin,
    give_cookie,
    give_proof,
    proofs_shown,
    take_cookie,
)
from cloud_api.access.sign_in import SignedIn, SignIn
from cloud_api.routes.messages import answer, read_message
from cloud_api.tokens import bearer
from domain.errors import InvalidInput, Problem
from domain.ids import dashed
from domain.shown_text import NAME_LENGTH_MAX, is_shown, shown_schema
from domain.wire import StudentSignInAnswer, StudentSignInRequest

_SHOWN = msgspec.Meta(extra_json_schema=shown_schema())


class NewSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/sessions. `school` (name or id) may be left out where the server has one. `cookie`: keep the session as a cookie, for pages."""

    username: Annotated[str, _SHOWN]
    password: str
    school: Annotated[str, _SHOWN] | None = None
    cookie: bool = False


class SessionUser(msgspec.Struct, frozen=True):
    """Who has signed in."""

    id: str
    school_id: str
    role: str
    display_name: str


class StartedSession(msgspec.Struct, frozen=True):
    """A session. `token` is for the Authorization header, and empty when the session is kept as a cookie; `csrf_token` is what a change by
    cookie must show. `ends_at_ms` is when it ends at the latest; it ends sooner when it is not used.
    """

    token: str
    csrf_token: str
    ends_at_ms: int
    user: SessionUser


def sessions_blueprint(sign_in: SignIn, doorkeeper: Doorkeeper) -> Blueprint:
    """The routes by which people sign in and out."""
    blueprint = Blueprint("sessions", __name__, url_prefix="/v1")

    @blueprint.post("/sessions")
    def start() -> Response:
        wanted = read_message(NewSession)
        _check(wanted.username, wanted.school or "")
        demand_own_origin(request)
        started = sign_in.staff(wanted.school, wanted.username, wanted.password, request.remote_addr or "", proofs_shown(request))
        response = answer(_told(started, wanted.cookie), status=201)
        if wanted.cookie:
            give_cookie(response, started.session)
            give_proof(response, started.proof, started.proof_before)
        return response

    @blueprint.delete("/sessions")
    def end() -> Response:
        user = doorkeeper.demand()
        sign_in.sign_out(user, credential(request))
        response = Response(status=204)
        take_cookie(response)
        return response

    @blueprint.post("/devices/password")
    def student() -> Response:
        token = bearer(request.headers.get("Authorization"))
        wanted = read_message(StudentSignInRequest)
        _check(wanted.username)
        return answer(StudentSignInAnswer(sign_in.student(token, wanted.username, wanted.password)))

    return blueprint


def _told(started: SignedIn, cookie: bool) -> StartedSession:
    session, user = started.session, started.user
    person = SessionUser(dashed(user.id), dashed(user.school_id), user.role, user.display_name)
    return StartedSession("" if cookie else session.token, csrf_token(session.token), session.ends_at_ms, person)


def _check(username: str, school: str = "") -> None:
    """Raises InvalidInput for what can be nobody's name, and what PostgreSQL cannot hold."""
    problems = [
        Problem(
            f"$.{name}", "invalid_value", f"{name} must be at most {NAME_LENGTH_MAX} characters, none of which controls how it is shown."
        )
        for name, text in (("username", username), ("school", school))
        if not is_shown(text)
    ]
    if problems:
        raise InvalidInput(problems)
