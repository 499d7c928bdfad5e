"""The localhost API as a Flask application, made from the tables of endpoints in `routes`.

The way of a request: id → guard (host, origin, media type) → route → pace of the token → who calls → query → body → handler → answer. Everything up to the handler is the
same for every endpoint and happens here, so no handler can leave a check out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flask
import msgspec
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from daemon.access.guards import Guard, foreign_origin, from_own_page, has_body
from daemon.api import problems
from daemon.api.callers import caller
from daemon.api.endpoints import Access, Answer, Call, Device, Endpoint
from daemon.api.intake import json_reader, query_reader
from daemon.api.openapi import path_of
from daemon.api.request_log import RequestLog
from daemon.api.routes import NOUNS
from daemon.api.routes.document import with_document
from daemon.api.routes.pages import HTML, missing_page
from domain.errors import BodyTooLarge, Forbidden, MalformedJson, Problem, TooSlow
from domain.ids import parse_id
from domain.request_rate import RequestRate

_encode = msgspec.json.Encoder().encode


def create_app(device: Device) -> flask.Flask:
    """The application for one device. It holds no state of its own."""
    app = flask.Flask("carrel", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = device.settings.body_bytes_max
    app.url_map.merge_slashes = False  # no redirects: an address is right or it is not there
    app.url_map.redirect_defaults = False
    RequestLog(device.tally).register(app)
    Guard(device.access.apps.origins).register(app)
    problems.register(app, lambda: _respond(missing_page(), HTML))
    rate = RequestRate(device.clock, device.settings.requests_per_s)
    described = with_document([endpoint for endpoints in NOUNS.values() for endpoint in endpoints])
    for name, endpoints in (*NOUNS.items(), ("document", described[-1:])):
        app.register_blueprint(_blueprint(name, endpoints, device, rate))
    return app


def _blueprint(name: str, endpoints: Sequence[Endpoint], device: Device, rate: RequestRate) -> flask.Blueprint:
    blueprint = flask.Blueprint(name, "carrel")
    for endpoint in endpoints:
        blueprint.add_url_rule(
            path_of(endpoint), endpoint.name, _view(endpoint, device, rate), methods=[endpoint.method], provide_automatic_options=False
        )
    return blueprint


def _view(endpoint: Endpoint, device: Device, rate: RequestRate) -> Callable[..., flask.Response]:
    """What Flask calls for an endpoint."""
    read_query = query_reader(endpoint.query)
    read_body = endpoint.read_body or (json_reader(endpoint.body) if endpoint.body is not None else None)

    def view(**args: str) -> flask.Response:
        request = flask.request
        authorization = request.environ.get("HTTP_AUTHORIZATION")
        if endpoint.access is not Access.OPEN:  # those cost next to nothing, and say whether the daemon is well
            rate.take(authorization or "")
        who = caller(device.access, endpoint.access, authorization, foreign_origin(), from_own_page())
        call = Call(device, who.student, who.app, args=args)
        call.query = read_query(request.args.to_dict(flat=False) if request.query_string else {})
        _demand_own(call)
        if read_body is not None:
            call.body = read_body(_body(endpoint, device.settings.body_bytes_max))
        return _respond(endpoint.handler(call), endpoint.media)

    return view


def _demand_own(call: Call) -> None:
    """Raises Forbidden when the query names another student."""
    named = getattr(call.query, "student_id", None)
    if named is not None and parse_id(named) != call.student:
        raise Forbidden("This session is another student's.")


def _body(endpoint: Endpoint, bytes_max: int) -> bytes:
    """The bytes of the body, or `{}` where it may be left out and is. Raises BodyTooLarge, MalformedJson, TooSlow."""
    if not has_body():
        if endpoint.body_optional:
            return b"{}"
        raise MalformedJson([Problem("$", MalformedJson.code, "The body must be given, as JSON.")])
    try:
        return flask.request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise BodyTooLarge(bytes_max) from None
    except ClientDisconnected as error:
        if isinstance(error.__context__, TimeoutError):
            raise TooSlow() from None
        raise


def _respond(answer: Answer, media: str) -> flask.Response:
    if answer.body is None:
        return flask.Response(status=answer.status)
    data = answer.body if isinstance(answer.body, bytes) else _encode(answer.body)
    return flask.Response(data, answer.status, answer.headers, content_type=media)
