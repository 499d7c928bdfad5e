"""The cloud API as a WSGI application: what every request and every answer has in common."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.own_password import OwnPassword
from cloud_api.access.sign_in import SignIn
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.keeper import Keeper
from cloud_api.backups import withdrawals
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.fleet import overview
from cloud_api.pages.serving import OWN_ASSETS
from cloud_api.problems import install_error_handlers
from cloud_api.routes.analytics import analytics_blueprint
from cloud_api.routes.class_pages import class_pages_blueprint
from cloud_api.routes.code_pages import code_pages_blueprint
from cloud_api.routes.devices import devices_blueprint
from cloud_api.routes.fleet_pages import fleet_pages_blueprint
from cloud_api.routes.health import health_blueprint
from cloud_api.routes.metrics import metrics_blueprint
from cloud_api.routes.openapi import openapi_blueprint
from cloud_api.routes.page_files import page_files_blueprint
from cloud_api.routes.pages import pages_blueprint
from cloud_api.routes.rule_pages import rule_pages_blueprint
from cloud_api.routes.sessions import sessions_blueprint
from cloud_api.routes.sync import sync_blueprint
from cloud_api.schema import SchemaGuard
from cloud_api.serving.forwarding import Forwarding
from cloud_api.serving.metrics import Metrics
from cloud_api.serving.request_log import follow_requests
from domain.bodies import BODY_BYTES_MAX
from domain.clock import Clock, SystemClock
from domain.ids import IdSource
from domain.request_rate import RequestRate

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
    every_school, database = database, database.narrowed()
    clock = clock or SystemClock()
    ids = ids or IdSource(clock.now_ms)
    app = Flask("cloud_api", static_folder=None)
    app.config.update(
        TRUSTED_HOSTS=list(config.server.trusted_hosts) or None,
        MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    guard = SchemaGuard(database, clock)
    metrics = Metrics(lambda: _totals(guard, every_school, clock))
    follow_requests(app, metrics)
    rate = RequestRate(clock, config.server.token_requests_per_s)
    app.before_request(lambda: rate.take(request.headers["Authorization"]) if "Authorization" in request.headers else None)
    app.after_request(_finish)
    install_error_handlers(app)
    doorkeeper = Doorkeeper(database, clock, config.sign_in)
    sign_in = SignIn(database, clock, ids, config.sign_in)
    app.register_blueprint(health_blueprint(guard))
    app.register_blueprint(openapi_blueprint())
    app.register_blueprint(metrics_blueprint(metrics, config.server.metrics_from))
    app.register_blueprint(page_files_blueprint(OWN_ASSETS))
    figures = ClassFigures(database, clock, ids)
    for blueprint in (
        devices_blueprint(database, clock, ids),
        sync_blueprint(database, clock, config.server, config.devices.token_days, metrics),
        sessions_blueprint(sign_in, doorkeeper),
        pages_blueprint(database, sign_in, OwnPassword(sign_in, database, clock, ids, config.sign_in), doorkeeper),
        fleet_pages_blueprint(database, clock, ids, doorkeeper),
        code_pages_blueprint(database, clock, ids, doorkeeper, config.tls),
        analytics_blueprint(figures, doorkeeper),
        class_pages_blueprint(figures, doorkeeper, clock),
        rule_pages_blueprint(database, clock, ids, doorkeeper),
    ):
        blueprint.before_request(guard.demand)
        app.register_blueprint(blueprint)
    app.wsgi_app = Forwarding(app.wsgi_app, config)  # type: ignore[method-assign]
    return app


def keep_figures_up(app: Flask, keeper: Keeper) -> None:
    """Starts `keeper` and has it told of every push."""

    def tell(response: Response) -> Response:
        if request.endpoint == "sync.push" and response.status_code == 200:
            keeper.push_came()
        return response

    app.after_request(tell)
    keeper.start()


# Routes that withdraw something: a device's access, or a part of it; a code, or one of its uses; a password.
WITHDRAWING = ("fleet_pages.revoke", "fleet_pages.end_grant", "code_pages.end", "devices.enrol", "pages.change")


def keep_withdrawals(app: Flask, database: CloudDatabase, path: Path) -> None:
    """Has the register at `path` hold what requests withdraw, before they are told so."""
    keeper = withdrawals.Keeper(path, database)

    def keep(response: Response) -> Response:
        if request.endpoint in WITHDRAWING and response.status_code in (201, 303):
            keeper.keep_or_tell()
        return response

    app.after_request(keep)


def _totals(guard: SchemaGuard, database: CloudDatabase, clock: Clock) -> overview.Totals:
    """How the devices of all schools stand, in numbers. Raises Unavailable."""
    guard.demand()
    with database.transaction(snapshot=True) as cursor:
        return overview.totals(cursor, None, clock.now_ms())


def _finish(response: Response) -> Response:
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response
