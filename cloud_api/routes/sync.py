"""POST /v1/sync/push, /pull and /verify, GET /v1/sync/head: bytes in, one transaction, bytes out."""

from __future__ import annotations

import math

import msgspec
from flask import Blueprint, Response, request

from cloud_api.config import Server
from cloud_api.database import CloudDatabase
from cloud_api.devices.auth import device_for
from cloud_api.erasure.orders import confirm
from cloud_api.fleet import reports
from cloud_api.routes.messages import read_message
from cloud_api.serving.metrics import Metrics
from cloud_api.sync.admission import Pace, admit_first_sync, release_first_sync
from cloud_api.sync.batch import decode_push
from cloud_api.sync.head import read_head
from cloud_api.sync.pull import give_page
from cloud_api.sync.push import PushReceiver
from cloud_api.sync.verify import tell_versions
from cloud_api.tokens import bearer
from domain.bodies import compress, to_json
from domain.clock import Clock
from domain.ids import IdSource
from domain.wire import PAGE_BYTES_MAX, POLL_AFTER_HEADER, Limits, PullRequest, PushRequest, VerifyRequest

# Answers below this size gain nothing from compression.
_COMPRESS_FROM_BYTES = 1_000


def sync_blueprint(database: CloudDatabase, clock: Clock, settings: Server, token_days: int, metrics: Metrics) -> Blueprint:
    """The sync routes over `database`; devices are asked to renew tokens of that age."""
    blueprint = Blueprint("sync", __name__, url_prefix="/v1/sync")
    ids = IdSource(clock.now_ms)
    receiver = PushReceiver(clock, ids.new, Limits(), settings.poll_after_s)
    pace = Pace(clock, settings.poll_after_s, settings.polls_per_s)

    @blueprint.post("/push")
    def push() -> Response:
        token = bearer(request.headers.get("Authorization"))
        with database.transaction(read_only=True) as cursor:
            device_for(cursor, token, lock=False)  # nothing of a stranger's body is inflated
        decoded = decode_push(read_message(PushRequest))
        settled = database.retrying(lambda cursor: receiver.receive(cursor, token, decoded))
        metrics.pushed(decoded.request, settled)
        return _answer(to_json(settled))

    @blueprint.post("/pull")
    def pull() -> Response:
        token = bearer(request.headers.get("Authorization"))
        message = read_message(PullRequest)
        if message.erased_through:
            database.retrying(lambda cursor: confirm(cursor, ids, device_for(cursor, token, lock=False), message, clock.now_ms()))
        if message.rebaselining:
            database.retrying(lambda cursor: admit_first_sync(cursor, token, clock, settings.first_syncs_max, pace.turn_after_s))
        while True:
            with database.transaction(read_only=True, snapshot=True) as cursor:
                page = give_page(cursor, token, message, clock, pace.told_s)
            plain = to_json(page)
            if len(plain) <= PAGE_BYTES_MAX or message.page_rows == 1:
                break
            message = msgspec.structs.replace(message, page_rows=max(1, message.page_rows // 4))
        metrics.pulled(page)
        if message.report is not None and not page.has_more:
            said = message.report
            database.retrying(lambda cursor: reports.note_by_token(cursor, token, said, clock.now_ms()))
        if message.rebaselining and not page.has_more:
            database.retrying(lambda cursor: release_first_sync(cursor, token))
        return _answer(plain)

    @blueprint.post("/verify")
    def verify() -> Response:
        token = bearer(request.headers.get("Authorization"))
        message = read_message(VerifyRequest)
        with database.transaction(read_only=True, snapshot=True) as cursor:
            return _answer(to_json(tell_versions(cursor, token, message, clock)))

    @blueprint.get("/head")
    def head() -> Response:
        token = bearer(request.headers.get("Authorization"))
        with database.transaction() as cursor:
            found = read_head(cursor, token, clock, pace, ids, token_days)
        if request.headers.get("If-None-Match") == found.etag:
            return Response(status=304, headers={"ETag": found.etag, POLL_AFTER_HEADER: str(math.ceil(pace.told_s))})
        answer = _answer(to_json(found.answer))
        answer.headers["ETag"] = found.etag
        return answer

    return blueprint


def _answer(plain: bytes) -> Response:
    accepted = request.headers.get("Accept-Encoding", "")
    if len(plain) < _COMPRESS_FROM_BYTES or "zstd" not in accepted:
        return Response(plain, content_type="application/json")
    return Response(compress(plain), content_type="application/json", headers={"Content-Encoding": "zstd", "Vary": "Accept-Encoding"})
