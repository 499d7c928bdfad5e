"""Each request has an id, a line in the log, and is counted: endpoint, status and time, never an address, a person or a body.

A device names its requests after its sync round (`X-Request-Id: 3f9c0a51d2e47b86.2`), so one search finds a round in both logs.
"""

from __future__ import annotations

import logging
import re
import secrets
import time

from flask import Flask, Response, g, request

from cloud_api.serving.metrics import Metrics
from loglines.parts import fields

log = logging.getLogger("carrel.cloud.requests")

REQUEST_ID_HEADER = "X-Request-Id"
# The id of a device or a proxy is kept, so that both logs can be read together; anything else would be written into the log as it came.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")


def follow_requests(app: Flask, metrics: Metrics) -> None:
    """Before anything else that is registered: what is refused early has an id too."""

    def begin() -> None:
        given = request.headers.get(REQUEST_ID_HEADER, "")
        g.request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        g.began_s = time.perf_counter()

    def end(response: Response) -> Response:
        response.headers[REQUEST_ID_HEADER] = g.request_id
        took_s = time.perf_counter() - g.began_s
        metrics.answered(request.endpoint, response.status_code, took_s)
        # Polls and looks at pages would drown everything else.
        level = logging.INFO if request.method not in ("GET", "HEAD") else logging.DEBUG
        if log.isEnabledFor(level):
            said = {"endpoint": request.endpoint or "none", "status": response.status_code, "took_ms": round(took_s * 1000, 1)}
            log.log(level, "answered", extra=fields(**said, request=g.request_id))
        return response

    app.before_request(begin)
    app.after_request(end)
