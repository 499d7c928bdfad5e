"""GET /openapi.json: the description of all other endpoints, and of itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec

from daemon import openapi
from daemon.endpoints import Access, Answer, Call, Endpoint


def with_document(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints, and the one that describes them."""

    @cache
    def document() -> bytes:
        return msgspec.json.encode(openapi.document(everything))

    def show(call: Call) -> Answer:
        return Answer(document())

    described = Endpoint("GET", "/openapi.json", show, "This description (OpenAPI 3.1).", {200: dict[str, object]}, Access.OPEN)
    everything = (*endpoints, described)
    return everything
