"""The cloud API as a WSGI application: what every request and every answer has in common."""

from __future__ import annotations

import re
import secrets

from flask import Flask, Response, g, request

from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.routes.devices import devices_blueprint
from cloud_api.routes.health import health_blueprint
from cloud_api.routes.openapi import openapi_blueprint
from cloud_api.routes.problems import install_error_handlers
from cloud_api.routes.sync import sync_blueprint
from cloud_api.schema import SchemaGuard
from domain.clock import Clock, SystemClock
from domain.ids import IdSource
from domain.wire import BODY_BYTES_MAX

REQUEST_ID_HEADER = "X-Request-Id"
# A proxy's own request id is kept, so that both logs can be read together; anything else would be written into the log as it came.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")

# Answers are data for programs: nothing may guess at their type, show them in a frame, run them, or keep them.
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(config: CloudConfig, database: CloudDatabase, clock: Clock | None = None, ids: IdSource | None = None) -> Flask:
    """The application over a database, which the caller closes. It keeps no state of its own: any number of processes are alike."""
    clock = clock or SystemClock()
    ids = ids or IdSource(clock.now_ms)
    app = Flask("cloud_api", static_folder=None)
    app.config.update(
        TRUSTED_HOSTS=list(config.server.trusted_hosts) or None,
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.before_request(_name_request)
    app.after_request(_finish)
    install_error_handlers(app)
    guard = SchemaGuard(database, clock)
    app.register_blueprint(health_blueprint(guard))
    app.register_blueprint(openapi_blueprint())
    for blueprint in (
        devices_blueprint(database, clock, ids),
        sync_blueprint(database, clock, config.server),
    ):
        blueprint.before_request(guard.demand)
        app.register_blueprint(blueprint)
    return app


def _name_request() -> None:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)


def _finish(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = g.request_id
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
