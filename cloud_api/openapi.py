"""The cloud API's description in OpenAPI 3.1: schemas from the message types, routes from one explicit table.

A test holds the table against the application's URL map, so that no route goes undescribed and none is described that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from cloud_api.routes.health import Health, Readiness
from cloud_api.routes.problems import CONTENT_TYPE as PROBLEM_TYPE
from cloud_api.routes.problems import ProblemDetails
from domain.wire import (
    EnrolAnswer,
    EnrolRequest,
    HeadAnswer,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    VerifyAnswer,
    VerifyRequest,
)
from migrations.history import app_version

JSON_TYPE = "application/json"

# Errors that a route may answer with: HTTP status and codes.
Errors = Mapping[int, Sequence[str]]

_ANYWHERE: Errors = {400: ("untrusted_host",), 500: ("internal",)}
_WITH_DATABASE: Errors = {503: ("unavailable",)}
_WITH_BODY: Errors = {
    400: ("malformed_json", "bad_request"),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    422: ("invalid",),
    507: ("storage_full",),
}
_SIGNED_IN: Errors = {401: ("not_signed_in",), 403: ("device_revoked",)}
_SYNC = (_WITH_DATABASE, _SIGNED_IN, _WITH_BODY)


@dataclass(frozen=True)
class Operation:
    """One route: what it takes and answers, and every error that it can answer with, as sets of status and codes."""

    method: str
    path: str
    operation_id: str
    summary: str
    answer: Any
    request: Any = None
    status: int = 200
    signed_in: bool = False
    errors: tuple[Errors, ...] = ()
    not_modified: bool = False


OPERATIONS = (
    Operation("get", "/healthz", "health", "Whether the process answers", Health),
    Operation("get", "/readyz", "readiness", "Whether database and schema are as they must be", Readiness, errors=(_WITH_DATABASE,)),
    Operation("get", "/v1/openapi.json", "openapi", "This description", dict[str, Any]),
    Operation(
        "post",
        "/v1/devices/enrol",
        "enrolDevice",
        "A one-time code in exchange for a device and its token",
        EnrolAnswer,
        EnrolRequest,
        status=201,
        errors=(_WITH_DATABASE, _WITH_BODY, {403: ("enrolment_refused",)}),
    ),
    Operation(
        "post",
        "/v1/sync/push",
        "push",
        "A batch of the device's operations, in order",
        PushAnswer,
        PushRequest,
        signed_in=True,
        errors=(*_SYNC, {409: ("fork", "behind", "ahead")}),
    ),
    Operation(
        "post",
        "/v1/sync/pull",
        "pull",
        "One page of what changed since the device's cursors",
        PullAnswer,
        PullRequest,
        signed_in=True,
        errors=(*_SYNC, {409: ("ahead", "too_old"), 503: ("first_syncs_busy",)}),
    ),
    Operation(
        "post",
        "/v1/sync/verify",
        "verify",
        "What the server holds, summed up, to be compared with what the device holds",
        VerifyAnswer,
        VerifyRequest,
        signed_in=True,
        errors=(*_SYNC, {409: ("ahead",)}),
    ),
    Operation(
        "get",
        "/v1/sync/head",
        "head",
        "The cheap poll: whether there is anything to pull",
        HeadAnswer,
        signed_in=True,
        errors=(_WITH_DATABASE, _SIGNED_IN),
        not_modified=True,
    ),
)


@cache
def document() -> bytes:
    """The description as JSON."""
    types = [ProblemDetails, *(t for o in OPERATIONS for t in (o.request, o.answer) if isinstance(t, type))]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Carrel cloud API", "version": app_version(), "description": "Synchronises devices with a school's server."},
            "security": [],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"device": {"type": "http", "scheme": "bearer", "description": "The token given at enrolment."}},
            },
        }
    )


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "responses": _responses(operation, schemas),
    }
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "description": "Plain, or compressed with zstd or gzip and Content-Encoding.",
            "content": {JSON_TYPE: {"schema": schemas[operation.request]}},
        }
    if operation.signed_in:
        described["security"] = [{"device": []}]
    if operation.not_modified:
        described["parameters"] = [{"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}]
    return described


def _responses(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    schema = schemas.get(operation.answer, {"type": "object"})
    responses: dict[str, Any] = {
        str(operation.status): {"description": HTTPStatus(operation.status).phrase, "content": {JSON_TYPE: {"schema": schema}}}
    }
    if operation.not_modified:
        responses["304"] = {"description": "Nothing changed since the ETag that was sent."}
    codes: dict[int, list[str]] = {}
    for errors in (_ANYWHERE, *operation.errors):
        for status, more in errors.items():
            codes.setdefault(status, []).extend(more)
    for status, names in sorted(codes.items()):
        content = {PROBLEM_TYPE: {"schema": schemas[ProblemDetails]}}
        responses[str(status)] = {"description": f"{HTTPStatus(status).phrase}: {', '.join(names)}", "content": content}
    return responses
