"""GET /pages/fleet and below: a school's devices, for its administrators: looked at, and revoked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices import enrolled, grants
from cloud_api.devices.auth import Revocation
from cloud_api.fleet import hours, overview
from cloud_api.fleet.overview import PAGE_DEVICES, SORTS, State
from cloud_api.pages.fleet import words
from cloud_api.pages.fleet.view import HOURS, FleetView, view_of
from cloud_api.pages.serving import html, refusals_as_pages
from cloud_api.routes.messages import id_of
from cloud_api.schools import find_school
from domain.clock import Clock
from domain.errors import InvalidInput, NotFound, NotSignedIn, Problem
from domain.ids import IdSource, dashed

FLEET = "/pages/fleet"
NAME_LENGTH_MAX = 200
OFFSET_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Asked:
    """Which devices the page is to show: of which state (empty: all but GONE), with what in their names, in which order."""

    name: str
    state: str
    sort: str

    def address(self, offset: int) -> str:
        """The page with the devices from `offset` on."""
        return f"{FLEET}?{urlencode({'name': self.name, 'state': self.state, 'sort': self.sort, 'offset': offset})}#devices"


def fleet_pages_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource, doorkeeper: Doorkeeper) -> Blueprint:
    """The fleet page and what belongs to it; for administrators alone."""
    blueprint = Blueprint("fleet_pages", __name__, url_prefix=FLEET)
    refusals_as_pages(blueprint)
    _add_fleet(blueprint, database, clock, doorkeeper)
    _add_device(blueprint, database, clock, ids, doorkeeper)
    return blueprint


def _add_fleet(blueprint: Blueprint, database: CloudDatabase, clock: Clock, doorkeeper: Doorkeeper) -> None:
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
        if offset and not found:  # there are fewer by now
            return Response(status=303, headers={"Location": asked.address(0)})
        values = {"devices": found, "matching": matching, **_ways_on(asked, offset, matching)}
        return html("fleet/devices.html", user, view=view, school_name=school_name, now_ms=now_ms, says=words, **values)

    @blueprint.get("/summary")
    def summary() -> Response:
        try:
            user = doorkeeper.demand("admin", is_use=False)
        except NotSignedIn:  # said where the figures stood; the form to sign in has no place in a part of a page
            return html("fleet/ended.html", None)
        with database.transaction(snapshot=True, school=user.school_id) as cursor:
            return html("fleet/summary.html", user, view=_look(cursor, user, clock.now_ms()))


def _add_device(blueprint: Blueprint, database: CloudDatabase, clock: Clock, ids: IdSource, doorkeeper: Doorkeeper) -> None:
    @blueprint.get("/devices/<device_id>")
    def device(device_id: str) -> Response:
        user, now_ms, id_ = doorkeeper.demand("admin"), clock.now_ms(), id_of(device_id)
        with database.transaction(snapshot=True, school=user.school_id) as cursor:
            found = overview.device(cursor, user.school_id, id_, now_ms)
            values: dict[str, Any] = {
                "school_name": find_school(cursor, user.school_id).name,
                "granted": grants.held_by(cursor, user.school_id, id_),
                "refused": overview.refused_of(cursor, user.school_id, id_),
            }
        return html("fleet/device.html", user, device=found, troubles=words.troubles(found, now_ms), now_ms=now_ms, says=words, **values)

    @blueprint.post("/devices/<device_id>/revoke")
    def revoke(device_id: str) -> Response:
        user, id_ = doorkeeper.demand("admin"), id_of(device_id)
        order = _order()

        def work(cursor: Cursor) -> None:
            enrolled.revoke(cursor, ids, user.school_id, id_, clock.now_ms(), order=order, actor=user.actor)

        database.retrying(work, school=user.school_id)
        return Response(status=303, headers={"Location": f"{FLEET}/devices/{dashed(id_)}"})

    @blueprint.post("/devices/<device_id>/grants/<grant_id>/end")
    def end_grant(device_id: str, grant_id: str) -> Response:
        """One that has ended meanwhile is as it should be."""
        user, id_, grant = doorkeeper.demand("admin"), id_of(device_id), id_of(grant_id)

        def work(cursor: Cursor) -> None:
            with suppress(NotFound):
                grants.end_grant(cursor, ids, user.school_id, id_, grant, clock.now_ms(), user.actor)

        database.retrying(work, school=user.school_id)
        return Response(status=303, headers={"Location": f"{FLEET}/devices/{dashed(id_)}#holds"})


def _ways_on(asked: Asked, offset: int, matching: int) -> dict[str, Any]:
    """What leads on from the devices shown: to those before and after them, and to other orders by the heads of the columns."""
    return {
        "asked": asked,
        "offset": offset,
        "before": asked.address(max(0, offset - PAGE_DEVICES)) if offset else "",
        "after": asked.address(offset + PAGE_DEVICES) if offset + PAGE_DEVICES < matching else "",
        "heads": [head for head, _ in words.COLUMNS],
        "orders": [replace(asked, sort=sort).address(0) for _, sort in words.COLUMNS],
        "ordered_by": next((head for head, sort in words.COLUMNS if sort == asked.sort), ""),
    }


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
