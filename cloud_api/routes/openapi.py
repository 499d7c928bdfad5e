"""GET /v1/openapi.json"""

from __future__ import annotations

from flask import Blueprint, Response

from cloud_api.openapi import JSON_TYPE, document


def openapi_blueprint() -> Blueprint:
    """The API's description of itself."""
    blueprint = Blueprint("openapi", __name__)

    @blueprint.get("/v1/openapi.json")
    def openapi() -> Response:
        return Response(document(), content_type=JSON_TYPE)

    return blueprint
