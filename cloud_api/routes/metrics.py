"""GET /metrics: figures for Prometheus, for the addresses that the configuration names, and for nobody through a proxy."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, Response, request

from cloud_api.config import networks
from cloud_api.serving.forwarding import THROUGH_PROXY, is_within
from cloud_api.serving.metrics import Metrics
from domain.errors import Forbidden

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_blueprint(metrics: Metrics, allowed: Sequence[str]) -> Blueprint:
    """The route; `allowed` are addresses and networks. A proxy on this very machine would make everybody look like one of them."""
    blueprint = Blueprint("metrics", __name__)
    among = networks(allowed)

    @blueprint.get("/metrics")
    def figures() -> Response:
        if request.environ.get(THROUGH_PROXY) or not is_within(request.remote_addr or "", among):
            raise Forbidden("The server's figures are not for this address: cloud.server.metrics_from names those that may read them.")
        return Response(metrics.text(), content_type=CONTENT_TYPE)

    return blueprint
