"""POST /v1/devices/enrol: a one-time code in exchange for a device and its token. /token renews that, /obeyed is for revoked devices."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cloud_api.access import tries
from cloud_api.bundles.keys import server_keys
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices import tokens
from cloud_api.devices.auth import device_for
from cloud_api.devices.enrolment import read_keys, redeem
from cloud_api.routes.messages import answer, read_message
from cloud_api.schools import server_epoch
from cloud_api.tokens import bearer
from domain.clock import Clock
from domain.errors import Forbidden, RateLimited
from domain.ids import IdSource
from domain.sealing import public_keys
from domain.wire import EnrolAnswer, EnrolRequest, Limits, ObeyedAnswer, ObeyedRequest, TokenAnswer

# More than a device can count; PostgreSQL's integers end there.
UNSENT_MAX = 2**31 - 1


def devices_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource) -> Blueprint:
    """The routes of devices; enrolment is the one that asks for no token."""
    blueprint = Blueprint("devices", __name__, url_prefix="/v1/devices")

    @blueprint.post("/enrol")
    def enrol() -> Response:
        message = read_message(EnrolRequest)
        keys = read_keys(message.verify_key, message.seal_key)

        def run(cursor: Cursor) -> EnrolAnswer:
            names = (message.device_name, message.app_version)
            device = redeem(cursor, ids, message.code, *names, clock.now_ms(), keys, message.token)
            own = public_keys(server_keys(cursor))
            identity = (device.id, device.school_id, device.school_name, device.token)
            return EnrolAnswer(*identity, server_epoch(cursor), Limits(), own.verify.hex(), own.seal.hex())

        try:
            return answer(database.retrying(run), status=201)
        except Forbidden:
            _count_wrong_code(database, request.remote_addr or "", clock.now_ms())
            raise

    @blueprint.post("/token")
    def renew() -> Response:
        token = bearer(request.headers.get("Authorization"))
        offered = database.retrying(lambda cursor: tokens.offer(cursor, device_for(cursor, token, lock=True)))
        return answer(TokenAnswer(offered))

    @blueprint.post("/obeyed")
    def obeyed() -> Response:
        token = bearer(request.headers.get("Authorization"))
        said, now_ms = read_message(ObeyedRequest), clock.now_ms()
        unsent = max(0, min(said.unsent, UNSENT_MAX))
        database.retrying(lambda cursor: tokens.note_obeyed(cursor, ids, token, said.wiped, unsent, now_ms))
        return answer(ObeyedAnswer(now_ms))

    return blueprint


def _count_wrong_code(database: CloudDatabase, address: str, now_ms: int) -> None:
    """A wrong code was tried. A right one is taken however many these were, so that nobody can keep the laptops of a school from enrolling by typing
    nonsense from the one address that all of them share: what keeps guessers out is the length of a code (cloud_api/devices/enrolment.py).

    Raises RateLimited after many.
    """
    try:
        database.retrying(lambda cursor: tries.begin(cursor, tries.by_enroller(address), now_ms))
    except RateLimited as error:
        raise RateLimited(
            "This code cannot be used, nor could many before it: wait, or type the right one.", error.retry_after_s
        ) from error
