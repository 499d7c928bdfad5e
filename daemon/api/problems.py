"""Refusals as the API gives them: problem details (RFC 9457), the same shape on every route.

`code` is stable and public (docs/errors.md); `errors` lists what is wrong with the request, each with its place in it. A detail never repeats a
value that was sent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import flask
import msgspec
from werkzeug import exceptions as http

from domain.errors import (
    BodyTooLarge,
    CarrelError,
    CloudUnreachable,
    ImmutableRow,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    NotSignedIn,
    OperatorError,
    Unavailable,
)
from webpages.headers import asks_for_page

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:carrel:problem:"


class ErrorItem(msgspec.Struct, frozen=True):
    """One thing wrong with the request: where (`$.attempts[3].confidence`, `query.limit`), a stable code, and a sentence."""

    path: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused. `retryable`: the same request may succeed later. `reason` comes with `cloud_unreachable` only."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    errors: list[ErrorItem]
    reason: str | msgspec.UnsetType = msgspec.UNSET


def status_of(error: type[CarrelError] | CarrelError) -> int:
    """The HTTP status of an error. What needs a person at the machine (a device that is not enrolled) is 503 to a learning app."""
    kind = error if isinstance(error, type) else type(error)
    return 503 if issubclass(kind, OperatorError) else error.status


def problem_of(error: CarrelError) -> Problem:
    """The document that describes an error."""
    items = [ErrorItem(*problem) for problem in error.problems] if isinstance(error, InvalidInput | ImmutableRow) else []
    title = (type(error).__doc__ or "").strip().partition("\n")[0]
    reason = error.reason if isinstance(error, CloudUnreachable) else msgspec.UNSET
    return Problem(TYPE_PREFIX + error.code, title, status_of(error), error.code, error.message, error.retryable, items, reason)


def respond(error: CarrelError, allowed_methods: Iterable[str] = ()) -> flask.Response:
    """The answer to a refused request."""
    response = flask.Response(msgspec.json.encode(problem_of(error)), status_of(error), content_type=CONTENT_TYPE)
    if isinstance(error, NotSignedIn):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(allowed_methods))
    return response


def register(app: flask.Flask, missing_page: Callable[[], flask.Response]) -> None:
    """Makes every refusal of the application, its framework's included, a problem document; but a browser that asks for a page that is not there
    gets `missing_page`.
    """
    limit = app.config["MAX_CONTENT_LENGTH"]

    def from_framework(error: http.HTTPException) -> flask.Response:
        if error.code in (404, 405) and asks_for_page(flask.request.path, flask.request.headers.get("Accept", "")):
            return missing_page()
        if isinstance(error, http.MethodNotAllowed):
            return respond(MethodNotAllowed(), error.valid_methods or ())
        if isinstance(error, http.NotFound):
            return respond(NotFound())
        if isinstance(error, http.RequestEntityTooLarge):
            return respond(BodyTooLarge(limit))
        if error.code is not None and 400 <= error.code < 500:
            return respond(_BadRequest())
        return unexpected(error)

    def unexpected(error: Exception) -> flask.Response:
        log.error("a request failed", exc_info=error)
        return respond(CarrelError("Something went wrong inside the daemon; its log says what."))

    app.register_error_handler(CarrelError, respond)
    app.register_error_handler(http.HTTPException, from_framework)
    app.register_error_handler(Exception, unexpected)


class _BadRequest(InvalidInput):
    """The request is not valid HTTP."""

    code = "bad_request"
    status = 400

    def __init__(self) -> None:
        super().__init__((), self.__doc__)
