"""GET /healthz: the process answers. GET /readyz: it can do its work. Neither asks for a token nor tells anything about a school."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from cloud_api.routes.messages import answer
from cloud_api.schema import SchemaGuard


class Health(msgspec.Struct, frozen=True):
    """GET /healthz"""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """GET /readyz: the newest migration applied."""

    status: str
    schema: str


def health_blueprint(guard: SchemaGuard) -> Blueprint:
    """The routes for whatever watches this process."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return answer(Health("ok"))

    @blueprint.get("/readyz")
    def readyz() -> Response:
        return answer(Readiness("ready", guard.ready()))

    return blueprint
