"""The cloud API's description in OpenAPI 3.1: schemas from the message types, routes from one explicit table.

A test holds the table against the application's URL map, so that no route goes undescribed and none is described that does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec

from cloud_api.access.doorkeeper import CSRF_HEADER, SECURE_COOKIE
from cloud_api.analytics.messages import (
    ClassMastery,
    CurvesPage,
    GroupsPage,
    ItemsPage,
    NeedsHelpPage,
    OffPlanPage,
    OutOfReachPage,
    StudentFiguresMessage,
    TimePage,
    WrongAnswersPage,
)
from cloud_api.analytics.question_lists import ItemOrder
from cloud_api.problems import CONTENT_TYPE as PROBLEM_TYPE
from cloud_api.problems import ProblemDetails
from cloud_api.routes.analytics import CSV_TYPE, OFFSET_MAX, ROWS_DEFAULT, ROWS_MAX
from cloud_api.routes.health import Health, Readiness
from cloud_api.routes.sessions import NewSession, StartedSession
from domain.wire import (
    EnrolAnswer,
    EnrolRequest,
    HeadAnswer,
    ObeyedAnswer,
    ObeyedRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    StudentSignInAnswer,
    StudentSignInRequest,
    TokenAnswer,
    VerifyAnswer,
    VerifyRequest,
)
from migrations.history import app_version

JSON_TYPE = "application/json"

# Errors that a route may answer with: HTTP status and codes.
Errors = Mapping[int, Sequence[str]]

_ANYWHERE: Errors = {400: ("untrusted_host",), 403: ("not_over_tls",), 500: ("internal",)}
_WITH_DATABASE: Errors = {503: ("unavailable",)}
_WITH_BODY: Errors = {
    400: ("malformed_json", "bad_request"),
    413: ("body_too_large",),
    415: ("unsupported_media_type",),
    422: ("invalid",),
    507: ("storage_full",),
}
_SIGNED_IN: Errors = {401: ("not_signed_in",), 403: ("device_revoked", "device_wipe", "device_wipe_all"), 429: ("rate_limited",)}
_USER: Errors = {401: ("not_signed_in",), 403: ("forbidden", "csrf_refused"), 429: ("rate_limited",)}
_PASSWORD: Errors = {403: ("wrong_password",), 429: ("rate_limited",)}
# Who may be asked for: a device by its token; a teacher or administrator by the token of a session, or by its cookie.
DEVICE = ("device",)
USER = ("user", "page")
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
    credentials: tuple[str, ...] = ()
    errors: tuple[Errors, ...] = ()
    not_modified: bool = False
    query: tuple[str, ...] = ()
    csv: bool = False


# What may be asked for in an address.
_QUERY = {
    "offset": {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": ROWS_MAX, "default": ROWS_DEFAULT},
    "topic_id": {"type": "string", "format": "uuid"},
    "concept_id": {"type": "string", "format": "uuid"},
    "flagged": {"type": "boolean", "default": False},
    "order": {"type": "string", "enum": [str(order) for order in ItemOrder], "default": str(ItemOrder.LOOK)},
}


def _figures(
    path: str, operation_id: str, summary: str, answer: Any, query: tuple[str, ...] = ("offset", "limit")
) -> tuple[Operation, ...]:
    """A table of a class, and the same as a CSV file."""
    errors = (_WITH_DATABASE, _USER, {404: ("not_found",), 422: ("invalid",)})
    address = f"/v1/classes/{{class_id}}/{path}"
    return (
        Operation("get", address, operation_id, summary, answer, credentials=USER, errors=errors, query=query, csv=True),
        Operation(
            "get",
            f"{address}.csv",
            f"{operation_id}Csv",
            f"{summary}: as CSV",
            None,
            credentials=USER,
            errors=errors,
            query=query,
            csv=True,
        ),
    )


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
        errors=(_WITH_DATABASE, _WITH_BODY, {403: ("enrolment_refused",), 429: ("rate_limited",)}),
    ),
    Operation(
        "post",
        "/v1/sync/push",
        "push",
        "A batch of the device's operations, in order",
        PushAnswer,
        PushRequest,
        credentials=DEVICE,
        errors=(*_SYNC, {409: ("fork", "behind", "ahead")}),
    ),
    Operation(
        "post",
        "/v1/sync/pull",
        "pull",
        "One page of what changed since the device's cursors",
        PullAnswer,
        PullRequest,
        credentials=DEVICE,
        errors=(*_SYNC, {409: ("ahead", "too_old"), 503: ("first_syncs_busy",)}),
    ),
    Operation(
        "post",
        "/v1/sync/verify",
        "verify",
        "What the server holds, summed up, to be compared with what the device holds",
        VerifyAnswer,
        VerifyRequest,
        credentials=DEVICE,
        errors=(*_SYNC, {409: ("ahead",)}),
    ),
    Operation(
        "get",
        "/v1/sync/head",
        "head",
        "The cheap poll: whether there is anything to pull",
        HeadAnswer,
        credentials=DEVICE,
        errors=(_WITH_DATABASE, _SIGNED_IN),
        not_modified=True,
    ),
    Operation(
        "post",
        "/v1/devices/token",
        "renewToken",
        "A new token for the device; the old one ends when it is used",
        TokenAnswer,
        credentials=DEVICE,
        errors=(_WITH_DATABASE, _SIGNED_IN),
    ),
    Operation(
        "post",
        "/v1/devices/obeyed",
        "obeyed",
        "A revoked device says that it is locked or wiped",
        ObeyedAnswer,
        ObeyedRequest,
        credentials=DEVICE,
        errors=(_WITH_DATABASE, _WITH_BODY, {401: ("not_signed_in",)}),
    ),
    Operation(
        "post",
        "/v1/devices/password",
        "signStudentIn",
        "Whether a password is that of a student of this device",
        StudentSignInAnswer,
        StudentSignInRequest,
        credentials=DEVICE,
        errors=(*_SYNC, _PASSWORD),
    ),
    Operation(
        "post",
        "/v1/sessions",
        "signIn",
        "Sign a teacher or an administrator in",
        StartedSession,
        NewSession,
        status=201,
        errors=(_WITH_DATABASE, _WITH_BODY, _PASSWORD, {403: ("csrf_refused",)}),
    ),
    Operation(
        "delete",
        "/v1/sessions",
        "signOut",
        "Sign out: the session ends",
        None,
        status=204,
        credentials=USER,
        errors=(_WITH_DATABASE, _USER),
    ),
    *_figures("mastery", "classMastery", "Students and concepts: level, score, evidence, age of the data", ClassMastery),
    *_figures("needs-help", "classNeedsHelp", "Who needs help, by which rule", NeedsHelpPage),
    *_figures(
        "items",
        "classItems",
        "Questions: facility, discrimination, what was given",
        ItemsPage,
        ("offset", "limit", "topic_id", "concept_id", "flagged", "order"),
    ),
    *_figures("wrong-answers", "classWrongAnswers", "Wrong answers that several gave", WrongAnswersPage),
    *_figures("time", "classTime", "Time on task against plan", TimePage),
    *_figures("curves", "classCurves", "Learning curves", CurvesPage),
    *_figures("groups", "classGroups", "Groups by a prerequisite that their members lack", GroupsPage),
    *_figures("off-plan", "classOffPlan", "Who is off plan, and by how much", OffPlanPage),
    *_figures("out-of-reach", "classOutOfReach", "Topics that plans for an exam to come leave out", OutOfReachPage),
    *_figures("students/{student_id}", "classStudent", "One student; the read is audited", StudentFiguresMessage, ()),
)


_SCHEMES = {
    "device": {"type": "http", "scheme": "bearer", "description": "The token given at enrolment."},
    "user": {"type": "http", "scheme": "bearer", "description": "The token of a session of a teacher or an administrator."},
    "page": {
        "type": "apiKey",
        "in": "cookie",
        "name": SECURE_COOKIE,
        "description": f"The same as a cookie; a change needs {CSRF_HEADER}.",
    },
}


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
                "securitySchemes": _SCHEMES,
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
    if operation.credentials:
        described["security"] = [{name: []} for name in operation.credentials]
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in re.findall(r"{(\w+)}", operation.path)]
    in_query = [{"name": name, "in": "query", "required": False, "schema": _QUERY[name]} for name in operation.query]
    in_header = (
        [{"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}] if operation.not_modified else []
    )
    return in_path + in_query + in_header


def _responses(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {str(operation.status): {"description": HTTPStatus(operation.status).phrase}}
    if operation.answer is not None:
        schema = schemas.get(operation.answer, {"type": "object"})
        responses[str(operation.status)]["content"] = {JSON_TYPE: {"schema": schema}}
    if operation.csv:
        responses[str(operation.status)].setdefault("content", {})[CSV_TYPE] = {"schema": {"type": "string"}}
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
