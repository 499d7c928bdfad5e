"""The pages by which teachers and administrators come in and go: /pages/sign-in, /pages/sign-out, /pages/password; / leads to their own first page."""

from __future__ import annotations

import re

from flask import Blueprint, Response, request

from cloud_api.access.accounts import school_of_sign_in
from cloud_api.access.doorkeeper import Doorkeeper, credential, demand_own_origin, give_cookie, give_proof, proofs_shown, take_cookie
from cloud_api.access.own_password import OwnPassword
from cloud_api.access.sessions import SignedInUser
from cloud_api.access.sign_in import SignIn
from cloud_api.database import CloudDatabase
from cloud_api.pages.serving import SIGN_IN, WANTED, html, refusals_as_pages
from domain.errors import CarrelError, Forbidden, InvalidInput, NotSignedIn, RateLimited

PASSWORD = "/pages/password"
# Where somebody comes who asked for nothing else.
FIRST_PAGES = {"admin": "/pages/fleet", "teacher": "/pages/classes"}
FIELD_LENGTH_MAX = 200
# A page of this server that somebody may be sent on to: no other server can be written like that.
_OWN_PAGE = re.compile(r"/pages/[A-Za-z0-9/_?&=%.+-]{1,500}\Z")


def pages_blueprint(database: CloudDatabase, sign_in: SignIn, own_password: OwnPassword, doorkeeper: Doorkeeper) -> Blueprint:
    """The pages around signing in."""
    blueprint = Blueprint("pages", __name__)
    refusals_as_pages(blueprint)
    _add_coming_and_going(blueprint, database, sign_in, doorkeeper)
    _add_password(blueprint, own_password, doorkeeper)
    return blueprint


def _add_coming_and_going(blueprint: Blueprint, database: CloudDatabase, sign_in: SignIn, doorkeeper: Doorkeeper) -> None:
    @blueprint.get("/")
    def first() -> Response:
        return _to(FIRST_PAGES[doorkeeper.demand("teacher", "admin").role])

    @blueprint.get(SIGN_IN)
    def sign_in_page() -> Response:
        try:
            return first()
        except (NotSignedIn, Forbidden):
            return asked(request.args.get(WANTED, ""))

    @blueprint.post(SIGN_IN)
    def start() -> Response:
        demand_own_origin(request)
        school, username, password = (_field(name) for name in ("school", "username", "password"))
        wanted = request.form.get(WANTED, "")
        try:
            started = sign_in.staff(school or None, username, password, request.remote_addr or "", proofs_shown(request))
        except (Forbidden, RateLimited, InvalidInput) as error:
            return asked(wanted, error)
        response = _to(wanted if _OWN_PAGE.match(wanted) else FIRST_PAGES[started.user.role])
        give_cookie(response, started.session)
        give_proof(response, started.proof, started.proof_before)
        return response

    @blueprint.post("/pages/sign-out")
    def end() -> Response:
        user = doorkeeper.demand()
        sign_in.sign_out(user, credential(request))
        response = _to(SIGN_IN)
        take_cookie(response)
        return response

    def asked(wanted: str, error: CarrelError | None = None) -> Response:
        with database.transaction(read_only=True) as cursor:
            several = school_of_sign_in(cursor, None) is None
        values = {"asks_school": several, "school": _field("school"), "username": _field("username"), "to": wanted}
        return html("sign_in.html", None, error.status if error else 200, problem=_sentence(error) if error else "", **values)


def _add_password(blueprint: Blueprint, own_password: OwnPassword, doorkeeper: Doorkeeper) -> None:
    @blueprint.get(PASSWORD)
    def password_page() -> Response:
        return html("password.html", doorkeeper.demand("teacher", "admin"), problem="", done="done" in request.args)

    @blueprint.post(PASSWORD)
    def change() -> Response:
        user = doorkeeper.demand("teacher", "admin")
        if _field("after") != _field("again"):
            return not_changed(user, 422, "The new password was not written the same way twice.")
        try:
            changed = own_password.change(user, _field("before"), _field("after"), request.remote_addr or "", proofs_shown(request))
        except Forbidden as error:
            return not_changed(user, error.status, "The present password is not right.")
        except (RateLimited, InvalidInput) as error:
            return not_changed(user, error.status, _sentence(error))
        response = _to(f"{PASSWORD}?done")
        give_cookie(response, changed.session)
        give_proof(response, changed.proof, changed.proof_before)
        return response

    def not_changed(user: SignedInUser, status: int, problem: str) -> Response:
        return html("password.html", user, status, problem=problem, done=False)


def _to(address: str) -> Response:
    """Sends the browser on, with GET."""
    return Response(status=303, headers={"Location": address})


def _field(name: str) -> str:
    """A field of the form that was sent, without what nobody types; empty where there is none."""
    text = request.form.get(name, "")
    return text if text.isprintable() and len(text) <= FIELD_LENGTH_MAX else ""


def _sentence(error: CarrelError) -> str:
    return error.problems[0].message if isinstance(error, InvalidInput) and error.problems else error.message
