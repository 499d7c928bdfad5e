"""GET /healthz: the process answers. GET /readyz: it can do its work. Neither asks for a token nor tells anything about a school."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from cloud_api.database import CloudDatabase
from cloud_api.routes.messages import answer
from cloud_api.schema import demand_schema
from domain.errors import SchemaError, Unavailable

# How long a load balancer should wait before it asks again whether someone has migrated the database.
SCHEMA_RETRY_AFTER_S = 10.0


class Health(msgspec.Struct, frozen=True):
    """GET /healthz"""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """GET /readyz: the newest migration applied."""

    status: str
    schema: str


def health_blueprint(database: CloudDatabase) -> Blueprint:
    """The routes for whatever watches this process."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return answer(Health("ok"))

    @blueprint.get("/readyz")
    def readyz() -> Response:
        try:
            return answer(Readiness("ready", demand_schema(database)))
        except SchemaError as error:
            raise Unavailable(error.message, SCHEMA_RETRY_AFTER_S) from error

    return blueprint
