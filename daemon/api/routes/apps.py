"""Learning apps: GET, POST and DELETE /apps for the command line; POST /launches for opening an app's page."""

from __future__ import annotations

import flask

from daemon.access import guards
from daemon.access.apps import OWN_APP, App
from daemon.access.launch_codes import CODE_LIFE_MS, PAGE_TOKEN_LIFE_MS
from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.intake import INVALID_VALUE
from daemon.api.schemas import access as schemas
from domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Problem, RateLimited
from domain.ids import dashed, parse_id

_OWN_ORIGIN = "This is the daemon's own address, whose pages are the device page alone: give the address that serves the app's pages."


def list_apps(call: Call) -> Answer:
    return Answer(schemas.Apps([_app(app) for app in call.access.apps.all()]))


def add(call: Call) -> Answer:
    wanted: schemas.NewApp = call.body
    own = guards.own_origins()
    problems = [Problem(f"$.origins[{n}]", INVALID_VALUE, _OWN_ORIGIN) for n, origin in enumerate(wanted.origins) if origin in own]
    if problems:
        raise InvalidInput(problems)
    app, token = call.access.apps.add(wanted.name, wanted.origins)
    return Answer(schemas.AddedApp(_app(app), token), 201)


def remove(call: Call) -> Answer:
    call.access.apps.remove(call.row_id)
    return Answer(status=204)


def launch(call: Call) -> Answer:
    """The command line may launch any app, an app itself."""
    wanted: schemas.NewLaunch = call.body
    app = call.app
    if app is None:
        app = call.access.apps.get(parse_id(wanted.app_id) if wanted.app_id else OWN_APP)
        if app is None:
            raise NotFound("There is no app of this id.")
    elif wanted.app_id is not None and parse_id(wanted.app_id) != app.id:
        raise Forbidden("An app may launch itself only.")
    code = call.access.launch_codes.issue(app)
    return Answer(schemas.Launch(code, list(app.origins), call.device.clock.now_ms() + CODE_LIFE_MS), 201)


def redeem(call: Call) -> Answer:
    app, token = call.access.launch_codes.redeem(call.body.code, flask.request.headers.get("Origin"))
    return Answer(schemas.PageToken(token, app.name, call.device.clock.now_ms() + PAGE_TOKEN_LIFE_MS), 201)


def _app(app: App) -> schemas.App:
    return schemas.App(dashed(app.id), app.name, list(app.origins), app.created_at_ms)


ENDPOINTS = (
    Endpoint("GET", "/apps", list_apps, "The registered apps.", {200: schemas.Apps}, Access.CONTROL),
    Endpoint(
        "POST", "/apps", add, "Register an app: its token is shown this once.", {201: schemas.AddedApp}, Access.CONTROL,
        body=schemas.NewApp, errors=(Conflict,),
    ),
    Endpoint("DELETE", "/apps/<id>", remove, "Remove an app; its sessions end.", {204: None}, Access.CONTROL),
    Endpoint(
        "POST", "/launches", launch, "A one-time code with which a page of the app gets a token.", {201: schemas.Launch},
        Access.APP_OR_CONTROL, body=schemas.NewLaunch, body_optional=True, errors=(NotFound, RateLimited),
    ),
    Endpoint(
        "POST", "/launches/redeem", redeem, "Exchange a launch code for a token, once, from a page of the app.", {201: schemas.PageToken},
        Access.OPEN, body=schemas.Redemption,
    ),
)  # fmt: skip
