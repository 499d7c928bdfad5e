"""JSON messages in and out of requests."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import Response, request
from werkzeug.exceptions import BadRequest, HTTPException

from domain.bodies import decompress, from_json, to_json
from domain.errors import NotFound, UnsupportedMediaType
from domain.ids import Id, parse_id
from domain.strict_json import demand_strict
from domain.wire import PushRequest

CONTENT_TYPE = "application/json"

Message = TypeVar("Message")


def read_message(kind: type[Message]) -> Message:
    """The request's body as a message, inflated if it was sent compressed.

    Raises UnsupportedMediaType unless it is declared as JSON, which a form of a foreign web page cannot do; MalformedJson, BodyTooLarge.
    """
    if request.mimetype != CONTENT_TYPE:
        raise UnsupportedMediaType
    body = decompress(_body(), request.headers.get("Content-Encoding", ""))
    message = from_json(body, kind)
    # Of a push every operation is judged by itself: one with such a number must not stop its neighbours.
    demand_strict(body, message, large_integers=kind is PushRequest)
    return message


def _body() -> bytes:
    """The body as it was sent. Raises HTTPException when it is too large, or does not arrive as it must."""
    try:
        return request.get_data(cache=False)
    except HTTPException:
        raise
    except Exception as error:  # each WSGI server has its own for a chunk that is none
        raise BadRequest from error


def answer(message: Any, status: int = 200) -> Response:
    """A message as the answer."""
    return Response(to_json(message), status=status, content_type=CONTENT_TYPE)


def id_of(text: str) -> Id:
    """An id of an address, in either form. Raises NotFound: there is nothing of a name that is none."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise NotFound from error
