"""GET /health: whether the daemon can do its work."""

from __future__ import annotations

from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.schemas.sync import Health
from domain.errors import Unavailable


def health(call: Call) -> Answer:
    database = call.device.database
    if database.failure:
        raise Unavailable("The database failed; the daemon must be started again.")
    database.write(lambda conn: None, finishing=True)  # goes through the writer and commits nothing: no fsync
    return Answer(Health("ok"))


ENDPOINTS = (Endpoint("GET", "/health", health, "Whether the daemon can read and write.", {200: Health}, Access.OPEN),)
