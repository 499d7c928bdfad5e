"""POST /v1/devices/enrol: a one-time code in exchange for a device and its token."""

from __future__ import annotations

from flask import Blueprint, Response

from cloud_api.database import CloudDatabase, Cursor
from cloud_api.enrolment import read_keys, redeem
from cloud_api.routes.messages import answer, read_message
from cloud_api.schools import server_epoch
from cloud_api.server_keys import server_keys
from domain.clock import Clock
from domain.ids import IdSource
from domain.sealing import public_keys
from domain.wire import EnrolAnswer, EnrolRequest, Limits


def devices_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource) -> Blueprint:
    """The routes of devices; enrolment is the one that asks for no token."""
    blueprint = Blueprint("devices", __name__, url_prefix="/v1/devices")

    @blueprint.post("/enrol")
    def enrol() -> Response:
        message = read_message(EnrolRequest)

        keys = read_keys(message.verify_key, message.seal_key)

        def run(cursor: Cursor) -> EnrolAnswer:
            device = redeem(cursor, ids, message.code, message.device_name, message.app_version, clock.now_ms(), keys)
            own = public_keys(server_keys(cursor))
            identity = (device.id, device.school_id, device.school_name, device.token)
            return EnrolAnswer(*identity, server_epoch(cursor), Limits(), own.verify.hex(), own.seal.hex())

        return answer(database.retrying(run), status=201)

    return blueprint
