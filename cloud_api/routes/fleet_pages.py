"""GET /pages/fleet and below: a school's devices, for its administrators: looked at, enrolled, and revoked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from cloud_api import devices, enrolment
from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.auth import Revocation
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.enrolment import EXPIRES_H_MAX, USES_MAX, Grant
from cloud_api.fleet import hours, overview
from cloud_api.fleet.overview import PAGE_DEVICES, SORTS, State
from cloud_api.pages.fleet import words
from cloud_api.pages.fleet.view import HOURS, FleetView, view_of
from cloud_api.pages.serving import html, refusals_as_pages
from cloud_api.people import list_classes
from cloud_api.schools import find_school
from domain.clock import Clock
from domain.errors import InvalidInput, NotFound, NotSignedIn, Problem
from domain.ids import Id, IdSource, dashed, parse_id

FLEET = "/pages/fleet"
NAME_LENGTH_MAX = 200
OFFSET_MAX = 1_000_000
# Codes that the page lists.
OPEN_CODES_MAX = 50
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which devices the page is to show: of which state (empty: all but the revoked), with what in their names, in which order."""

    name: str
    state: str
    sort: str

    def address(self, offset: int) -> str:
        """The page with the devices from `offset` on."""
        return f"{FLEET}?{urlencode({'name': self.name, 'state': self.state, 'sort': self.sort, 'offset': offset})}"


@dataclass(frozen=True, slots=True)
class MadeCode:
    """A code just made: shown once."""

    code: str
    class_name: str
    uses: int
    expires_at_ms: int
    line: str
    qr: object


def fleet_pages_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource, doorkeeper: Doorkeeper) -> Blueprint:
    """The fleet page and what belongs to it; for administrators alone."""
    blueprint = Blueprint("fleet_pages", __name__, url_prefix=FLEET)
    refusals_as_pages(blueprint)

    @blueprint.get("")
    def fleet() -> Response:
        user, now_ms = doorkeeper.demand("admin"), clock.now_ms()
        asked, offset = _asked(), _offset()
        with database.transaction(snapshot=True, school=user.school_id) as cursor:
            school_name = find_school(cursor, user.school_id).name
            view = _look(cursor, user, now_ms)
            found, matching = overview.devices_page(
                cursor, user.school_id, now_ms, state=asked.state, text=asked.name, sort=asked.sort, offset=offset
            )
        before = asked.address(max(0, offset - PAGE_DEVICES)) if offset else ""
        after = asked.address(offset + PAGE_DEVICES) if offset + PAGE_DEVICES < matching else ""
        values: dict[str, Any] = {
            "devices": found,
            "matching": matching,
            "asked": asked,
            "offset": offset,
            "before": before,
            "after": after,
        }
        return html("fleet/devices.html", user, view=view, school_name=school_name, now_ms=now_ms, says=words, **values)

    @blueprint.get("/summary")
    def summary() -> Response:
        try:
            user = doorkeeper.demand("admin", is_use=False)
        except NotSignedIn:  # said where the figures stood; the form to sign in has no place in a part of a page
            return html("fleet/ended.html", None)
        with database.transaction(snapshot=True, school=user.school_id) as cursor:
            return html("fleet/summary.html", user, view=_look(cursor, user, clock.now_ms()))

    @blueprint.get("/devices/<device_id>")
    def device(device_id: str) -> Response:
        user, now_ms, id_ = doorkeeper.demand("admin"), clock.now_ms(), _id(device_id)
        with database.transaction(snapshot=True, school=user.school_id) as cursor:
            found = overview.device(cursor, user.school_id, id_, now_ms)
            values: dict[str, Any] = {
                "school_name": find_school(cursor, user.school_id).name,
                "granted": [(name, kind) for kind, name in overview.granted_names(cursor, user.school_id, id_)],
                "refused": overview.refused_of(cursor, user.school_id, id_),
            }
        return html("fleet/device.html", user, device=found, troubles=words.troubles(found, now_ms), now_ms=now_ms, says=words, **values)

    @blueprint.post("/devices/<device_id>/revoke")
    def revoke(device_id: str) -> Response:
        user, id_ = doorkeeper.demand("admin"), _id(device_id)
        order = _order()

        def work(cursor: Cursor) -> None:
            devices.revoke(cursor, ids, user.school_id, id_, clock.now_ms(), order=order, actor=user.actor)

        database.retrying(work, school=user.school_id)
        return Response(status=303, headers={"Location": f"{FLEET}/devices/{dashed(id_)}"})

    @blueprint.get("/codes")
    def codes() -> Response:
        return codes_page(doorkeeper.demand("admin"), None)

    @blueprint.post("/codes")
    def make_code() -> Response:
        user, now_ms = doorkeeper.demand("admin"), clock.now_ms()
        class_id, uses, expires_h = _id(request.form.get("class_id", "")), _whole("uses", USES_MAX), _whole("hours", int(EXPIRES_H_MAX))

        def work(cursor: Cursor) -> tuple[str, str]:
            names = dict(list_classes(cursor, user.school_id))
            if class_id not in names:
                raise NotFound("There is no such class in the school.")
            grants = [Grant("class", class_id)]
            return enrolment.create_code(cursor, ids, user.school_id, grants, uses, expires_h, now_ms, user.actor), names[class_id]

        code, class_name = database.retrying(work, school=user.school_id)
        line = f"carrel enrol {request.host_url.rstrip('/')} {code}"
        return codes_page(user, MadeCode(code, class_name, uses, now_ms + expires_h * HOUR_MS, line, _qr(line)))

    def codes_page(user: SignedInUser, made: MadeCode | None) -> Response:
        with database.transaction(read_only=True, school=user.school_id) as cursor:
            values: dict[str, Any] = {
                "school_name": find_school(cursor, user.school_id).name,
                "classes": list_classes(cursor, user.school_id),
                "open_codes": enrolment.open_codes(cursor, user.school_id, clock.now_ms(), OPEN_CODES_MAX),
            }
        return html("fleet/codes.html", user, made=made, now_ms=clock.now_ms(), uses_max=USES_MAX, hours_max=int(EXPIRES_H_MAX), **values)

    return blueprint


def _look(cursor: Cursor, user: SignedInUser, now_ms: int) -> FleetView:
    return view_of(overview.totals(cursor, user.school_id, now_ms), hours.latest(cursor, user.school_id, HOURS, now_ms), now_ms)


def _asked() -> Asked:
    """What the address asks for; what it cannot ask for counts as not asked."""
    name, state, sort = (request.args.get(field, "").strip() for field in ("name", "state", "sort"))
    return Asked(
        name if name.isprintable() and len(name) <= NAME_LENGTH_MAX else "",
        state if state in list(State) else "",
        sort if sort in SORTS else "attention",
    )


def _offset() -> int:
    text = request.args.get("offset", "0")
    return min(int(text), OFFSET_MAX) if text.isascii() and text.isdigit() and len(text) <= len(str(OFFSET_MAX)) else 0


def _order() -> Revocation:
    """The order that the form gives. Raises InvalidInput unless it is one, and confirmed."""
    order = request.form.get("order", "")
    if order not in list(Revocation):
        raise InvalidInput([Problem("$.order", "invalid_value", "Choose what the device is to do.")])
    if request.form.get("confirmed") != "yes":
        raise InvalidInput([Problem("$.confirmed", "invalid_value", "Say that the access is to end.")])
    return Revocation(order)


def _whole(name: str, most: int) -> int:
    """A whole number of the form, 1 to `most`. Raises InvalidInput."""
    text = request.form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidInput([Problem(f"$.{name}", "invalid_value", f"{name} must be a whole number from 1 to {most}.")])
    return int(text)


def _id(text: str) -> Id:
    """An id in either form. Raises NotFound."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise NotFound from error


def _qr(line: str) -> object:
    """The SVG, which templates take as it is."""
    from webpages.qr import qr_code  # here, because few ever make a code

    return qr_code(line, "The command as a QR code")
