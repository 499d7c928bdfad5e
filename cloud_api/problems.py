"""The one shape of every error answer: application/problem+json (RFC 9457), made here and nowhere else. Browsers that ask for a page that is not
there get one that leads home.

    {"type": "urn:carrel:problem:enrolment_refused", "title": "This is not allowed here.", "status": 403, "detail": "…",
     "code": "enrolment_refused", "retryable": false, "instance": "urn:carrel:request:0f3c…", "errors": []}

`code` is stable (docs/errors.md); `errors` lists every problem of an input with its path. What was sent is never repeated, and
of an unexpected error only the request's id is told, under which the log has the rest.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError

from cloud_api.pages.serving import refused_page
from domain.errors import (
    BodyTooLarge,
    CarrelError,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    NotSignedIn,
    Unavailable,
    UnsupportedMediaType,
)
from webpages.headers import NO_PAGE, asks_for_page

CONTENT_TYPE = "application/problem+json"
_LOG = logging.getLogger("carrel.cloud")


class ProblemError(msgspec.Struct, frozen=True):
    """One thing that is wrong with the request: where, a stable code, and a sentence."""

    path: str
    code: str
    message: str


class ProblemDetails(msgspec.Struct, frozen=True):
    """Why a request was not done. `retryable`: the same request may succeed later."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    instance: str
    errors: list[ProblemError]


def install_error_handlers(app: Flask) -> None:
    """Answers everything that a request can raise in the one shape."""
    body_bytes_max: int = app.config["MAX_CONTENT_LENGTH"]

    @app.errorhandler(CarrelError)
    def carrel_error(error: CarrelError) -> Response:
        if error.status == 500:
            _LOG.error("request %s: %s", g.request_id, error.message)
        return _answer(error)

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:
        return _answer(BodyTooLarge(body_bytes_max))

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        if error.code in (404, 405) and asks_for_page(request.path, request.headers.get("Accept", "")):
            return refused_page(NotFound(NO_PAGE))
        return _http_answer(error)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        _LOG.error("request %s failed", g.request_id, exc_info=error)
        return _answer(CarrelError("Something went wrong on the server; its log has more under this request's id."))


def _answer(error: CarrelError) -> Response:
    problems = error.problems if isinstance(error, InvalidInput) else ()
    title = (type(error).__doc__ or "").strip().splitlines()[0]
    errors = [ProblemError(*problem) for problem in problems]
    response = _response(error.status, error.code, title, error.message, errors, error.retryable)
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, NotSignedIn):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _http_answer(error: HTTPException) -> Response:
    """An error that Flask itself raised, under the same code as Carrel's own where there is one."""
    kinds: dict[int, type[CarrelError]] = {404: NotFound, 405: MethodNotAllowed, 415: UnsupportedMediaType}
    status = error.code or 500
    if status in kinds:
        response = _answer(kinds[status]())
    elif isinstance(error, SecurityError):
        response = _response(400, "untrusted_host", "The server does not answer under this name.", "Add the name to trusted_hosts.")
    else:
        code = re.sub(r"[^a-z]+", "_", error.name.lower()).strip("_")
        response = _response(status, code, f"{error.name}.", f"{error.name}.")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _response(status: int, code: str, title: str, detail: str, errors: Sequence[ProblemError] = (), retryable: bool = False) -> Response:
    body = problem_body(status, code, title, detail, g.request_id, errors, retryable)
    return Response(body, status=status, content_type=CONTENT_TYPE)


def problem_body(
    status: int, code: str, title: str, detail: str, request_id: str, errors: Sequence[ProblemError] = (), retryable: bool = False
) -> bytes:
    """The document of a refusal as JSON, also for those that no route makes."""
    instance = f"urn:carrel:request:{request_id}"
    return msgspec.json.encode(ProblemDetails(f"urn:carrel:problem:{code}", title, status, detail, code, retryable, instance, list(errors)))
