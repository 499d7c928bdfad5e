"""POST /v1/sync/push, POST /v1/sync/pull, GET /v1/sync/head: bytes in, one transaction, bytes out."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, request

from cloud_api.auth import bearer, device_for
from cloud_api.database import CloudDatabase
from cloud_api.routes.messages import read_message
from cloud_api.sync.batch import decode_push
from cloud_api.sync.head import read_head
from cloud_api.sync.pull import give_page
from cloud_api.sync.push import PushReceiver
from domain.clock import Clock
from domain.ids import IdSource
from domain.wire import PAGE_BYTES_MAX, Limits, PullRequest, PushRequest, compress, to_json

# Answers below this size gain nothing from compression.
_COMPRESS_FROM_BYTES = 1_000


def sync_blueprint(database: CloudDatabase, clock: Clock, *, poll_after_s: float) -> Blueprint:
    """The sync routes over `database`; devices are told to poll every `poll_after_s` seconds."""
    blueprint = Blueprint("sync", __name__, url_prefix="/v1/sync")
    receiver = PushReceiver(clock, IdSource(clock.now_ms).new, Limits(), poll_after_s)

    @blueprint.post("/push")
    def push() -> Response:
        token = bearer(request.headers.get("Authorization"))
        with database.transaction(read_only=True) as cursor:
            device_for(cursor, token, lock=False)  # nothing of a stranger's body is inflated
        decoded = decode_push(read_message(PushRequest))
        return _answer(to_json(database.retrying(lambda cursor: receiver.receive(cursor, token, decoded))))

    @blueprint.post("/pull")
    def pull() -> Response:
        token = bearer(request.headers.get("Authorization"))
        message = read_message(PullRequest)
        while True:
            with database.transaction(read_only=True, snapshot=True) as cursor:
                page = give_page(cursor, token, message, clock, poll_after_s)
            plain = to_json(page)
            if len(plain) <= PAGE_BYTES_MAX or message.page_rows == 1:
                return _answer(plain)
            message = msgspec.structs.replace(message, page_rows=max(1, message.page_rows // 4))

    @blueprint.get("/head")
    def head() -> Response:
        token = bearer(request.headers.get("Authorization"))
        with database.transaction() as cursor:
            found = read_head(cursor, token, clock, poll_after_s)
        if request.headers.get("If-None-Match") == found.etag:
            return Response(status=304, headers={"ETag": found.etag})
        answer = _answer(to_json(found.answer))
        answer.headers["ETag"] = found.etag
        return answer

    return blueprint


def _answer(plain: bytes) -> Response:
    accepted = request.headers.get("Accept-Encoding", "")
    if len(plain) < _COMPRESS_FROM_BYTES or "zstd" not in accepted:
        return Response(plain, content_type="application/json")
    return Response(compress(plain), content_type="application/json", headers={"Content-Encoding": "zstd", "Vary": "Accept-Encoding"})
