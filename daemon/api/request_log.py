"""Each request to the localhost API has an id, is counted, and at level `debug` logged: endpoint, status and time, never an address or a body.

The id comes back as `X-Request-Id`. An app may choose it, so that its own log and the daemon's can be read together.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from contextvars import Token
from typing import Any, NamedTuple

import flask

from daemon.process import logs
from daemon.process.tally import Tally
from loglines.parts import fields

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-Id"
# Anything else would be written into the log as it came.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")
# The endpoint of requests that no route takes.
NO_ENDPOINT = "none"


_FOLLOWED = "carrel.followed"


class _Followed(NamedTuple):
    """A request under way; in the WSGI environment, which costs less than Flask's `g` in what every request passes through."""

    id: str
    began_s: float
    bound: Token[Mapping[str, Any]]


class RequestLog:
    """Follows the requests of one application."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def register(self, app: flask.Flask) -> None:
        """Before anything else that is registered: what a guard refuses has an id too."""
        app.before_request(self._begin)
        app.after_request(self._end)
        app.teardown_request(_forget)

    def _begin(self) -> None:
        environ = flask.request.environ
        given = environ.get("HTTP_X_REQUEST_ID", "")
        id_ = given if _REQUEST_ID.match(given) else logs.new_id()
        environ[_FOLLOWED] = _Followed(id_, time.perf_counter(), logs.bind(request=id_))

    def _end(self, response: flask.Response) -> flask.Response:
        request = flask.request
        followed: _Followed = request.environ[_FOLLOWED]
        response.headers[REQUEST_ID_HEADER] = followed.id
        took_s = time.perf_counter() - followed.began_s
        endpoint = (request.endpoint or NO_ENDPOINT).rpartition(".")[2]
        self._tally.request_answered(endpoint, response.status_code, took_s)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("answered", extra=fields(endpoint=endpoint, status=response.status_code, took_ms=round(took_s * 1000, 1)))
        return response


def _forget(_error: BaseException | None) -> None:
    followed: _Followed | None = flask.request.environ.pop(_FOLLOWED, None)
    if followed is not None:
        logs.unbind(followed.bound)
