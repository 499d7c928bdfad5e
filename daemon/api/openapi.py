"""The OpenAPI 3.1 document of the localhost API, made from the tables of endpoints and the types that they name."""

from __future__ import annotations

import re
import types
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Union, get_args, get_origin

import msgspec

from daemon.api import problems
from daemon.api.endpoints import Access, Endpoint
from domain.errors import (
    BodyTooLarge,
    CarrelError,
    Forbidden,
    InvalidInput,
    MalformedJson,
    NotEnrolled,
    NotFound,
    NotSignedIn,
    RateLimited,
    StorageFull,
    TooSlow,
    Unavailable,
    UnsupportedMediaType,
)

OPENAPI_VERSION = "3.1.0"
API_VERSION = "1"
PREFIX = "/v1"
_REF = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"<(\w+)>")
_ID_IN_PATH = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 32, "maxLength": 36}}

DESCRIPTION = """What learning apps need of Carrel on this device. Everything written is on the disk when it is answered, whether or not the school
can be reached. Ids are UUIDs, times UTC milliseconds. A name stands once in an object; unknown fields and parameters are refused.

Refusals are problem details (RFC 9457) with a stable `code`. A request that is no valid HTTP, or arrives too slowly, is refused in the same shape
with 400, 408, 413, 414, 501 or 505; a method that an address does not take with 405, an unknown address with 404."""

_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.OPEN: [],
    Access.APP: [{"app": []}],
    Access.APP_OR_PAGE: [{"app": []}, {}],
    Access.STUDENT: [{"session": []}],
    Access.CONTROL: [{"control": []}],
    Access.APP_OR_CONTROL: [{"app": []}, {"control": []}],
    Access.STUDENT_OR_CONTROL: [{"session": []}, {"control": []}],
}
_SECURITY_SCHEMES = {
    "app": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of a registered app, a page's from POST /v1/launches/redeem, or the content of app.token in the daemon's state folder.",
    },
    "session": {"type": "http", "scheme": "bearer", "description": "The token of POST /v1/sessions."},
    "control": {"type": "http", "scheme": "bearer", "description": "The control token in the daemon's state folder, for the command line."},
}


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document as plain JSON values."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for endpoint in endpoints:
        paths[_PATH_PARAMETER.sub(r"{\1}", path_of(endpoint))][endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Carrel on this device", "version": API_VERSION, "description": DESCRIPTION},
        "paths": dict(paths),
        "components": {"schemas": _components(endpoints), "securitySchemes": _SECURITY_SCHEMES},
    }


def path_of(endpoint: Endpoint) -> str:
    """The endpoint's path as it is served."""
    return endpoint.path if endpoint.at_root else PREFIX + endpoint.path


def refusals(endpoint: Endpoint) -> list[type[CarrelError]]:
    """Every kind of refusal that the endpoint can answer with."""
    kinds: list[type[CarrelError]] = [CarrelError, Forbidden, Unavailable, InvalidInput, *endpoint.errors]
    if endpoint.access is not Access.OPEN:
        kinds += [NotSignedIn, RateLimited]
    if endpoint.method != "GET":
        kinds += [UnsupportedMediaType, BodyTooLarge, NotEnrolled, StorageFull]
    if endpoint.body is not None:
        kinds += [MalformedJson, TooSlow]
    if _PATH_PARAMETER.search(endpoint.path):
        kinds.append(NotFound)
    return kinds


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "security": _SECURITY[endpoint.access],
        "parameters": _parameters(endpoint),
        "responses": _responses(endpoint),
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": _schema(endpoint.body)}}
        operation["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    (_, components) = msgspec.json.schema_components([endpoint.query], ref_template=_REF)
    query = components[endpoint.query.__name__]
    in_path = [_ID_IN_PATH] if _PATH_PARAMETER.search(endpoint.path) else []
    return [*in_path, *(_query_parameter(name, schema) for name, schema in query["properties"].items())]


def _query_parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not, it is never null."""
    options = [o for o in schema.get("anyOf", ()) if o != {"type": "null"}]
    plain = {k: v for k, v in schema.items() if k != "anyOf" and not (k == "default" and v is None)}
    for option in options:
        plain |= option
    description = plain.pop("description", "")
    return {"name": name, "in": "query", "required": False, "description": description, "schema": plain}


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, type_ in endpoint.answers.items():
        content = {} if type_ is None else {"content": {endpoint.media: {"schema": _schema(type_)}}}
        responses[str(status)] = {"description": "Done." if type_ is None else endpoint.summary, **content}
    by_status: dict[int, list[type[CarrelError]]] = defaultdict(list)
    for kind in refusals(endpoint):
        by_status[problems.status_of(kind)].append(kind)
    for status, kinds in sorted(by_status.items()):
        codes = ", ".join(f"`{code}`" for code in sorted({kind.code for kind in kinds}))
        content = {"content": {problems.CONTENT_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}}
        responses[str(status)] = {"description": f"Refused: {codes}.", **content}
    return responses


def _schema(type_: Any) -> dict[str, Any]:
    """The schema of a body; msgspec itself knows no choice between structs."""
    options = _options(type_)
    (schemas, _) = msgspec.json.schema_components(options, ref_template=_REF)
    return schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}


def _options(type_: Any) -> tuple[Any, ...]:
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else (type_,)


def _components(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    named: list[Any] = [problems.Problem]
    for endpoint in endpoints:
        for type_ in (endpoint.body, *endpoint.answers.values()):
            named += [] if type_ is None else _options(type_)
    (_, components) = msgspec.json.schema_components(named, ref_template=_REF)
    return components
