"""GET /openapi.json: the description of all other endpoints, and of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.openapi import document


def with_document(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints, and the one that describes them."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document(everything))

    def show(call: Call) -> Answer:
        return Answer(encoded())

    described = Endpoint("GET", "/openapi.json", show, "This description (OpenAPI 3.1).", {200: dict[str, Any]}, Access.OPEN)
    everything = (*endpoints, described)
    return everything
