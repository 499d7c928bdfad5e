"""The API against its own description: every route, every answer, every refusal.

EXAMPLES holds one good request for each route; the tests run through the application's own table of routes, so that a route without an example, or
without a place in the document, fails.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote

import flask
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from daemon.bundles.spool import INCOMING, lay_down
from domain.bodies import to_json
from domain.bundle import FromSchool
from domain.ids import dashed
from tests.support.device import ADA, GOOD_CODE, QUESTIONS, ApiClient, DeviceUnderTest, attempt, concept_id, open_device, topic_id

PROBLEM = "application/problem+json"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
ID = "0192f7a0-b1c2-7abc-8def-0123456789ab"
PIN, PAGES = "4711", "http://localhost:4000"
ODD_TEXTS = ("null", "x", "0", "-1", "1e400", "NaN", "true", "%", "\0", "\u00e9\U0001f600", "9" * 5000, "0" * 32, ID)

# (method, path) -> who asks, and options of the request. {item} stands for an item of Ada's plan.
EXAMPLES: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("GET", "/v1/health"): ("open", {}),
    ("GET", "/v1/status"): ("open", {}),
    ("GET", "/v1/openapi.json"): ("open", {}),
    ("GET", "/v1/students"): ("app", {}),
    ("POST", "/v1/sessions"): ("app", {"json": {"username": "ada", "pin": PIN}}),
    ("POST", "/v1/students/<id>/pin"): ("control", {"path": f"/v1/students/{ADA}/pin", "json": {"pin": PIN}}),
    ("GET", "/v1/apps"): ("control", {}),
    ("POST", "/v1/apps"): ("control", {"json": {"name": "Fractions", "origins": ["http://localhost:3000"]}}),
    ("DELETE", "/v1/apps/<id>"): ("control", {"path": "/v1/apps/{app}"}),
    ("POST", "/v1/launches"): ("control", {"json": {"app_id": "{app}"}}),
    ("POST", "/v1/launches/redeem"): ("open", {"json": {"code": "{code}"}, "headers": {"Origin": PAGES}}),
    ("DELETE", "/v1/sessions"): ("student", {}),
    ("GET", "/v1/me"): ("student", {}),
    ("PATCH", "/v1/me/profile"): ("student", {"json": {"grade": "7", "exam_on": "2026-06-01", "available_minutes": [20] * 7}}),
    ("GET", "/v1/topics"): ("student", {"query_string": {"limit": 2}}),
    ("GET", "/v1/concepts"): ("student", {"query_string": {"topic_id": topic_id("Cold work")}}),
    ("GET", "/v1/questions"): ("student", {"query_string": {"retired": "true"}}),
    ("GET", "/v1/questions/<id>"): ("student", {"path": f"/v1/questions/{QUESTIONS[0]}"}),
    ("GET", "/v1/questions/next"): ("student", {}),
    ("POST", "/v1/attempts"): ("student", {"json": attempt(answer="yes", confidence=2)}),
    ("GET", "/v1/attempts"): ("student", {}),
    ("GET", "/v1/mastery"): ("student", {}),
    ("GET", "/v1/mastery/<id>"): ("student", {"path": f"/v1/mastery/{concept_id('scoring')}"}),
    ("GET", "/v1/plan"): ("student", {}),
    ("POST", "/v1/plan"): ("student", {"json": {"horizon_days": 3}}),
    ("PATCH", "/v1/plan/items/<id>"): ("student", {"path": "/v1/plan/items/{item}", "json": {"status": "skipped"}}),
    ("POST", "/v1/sync"): ("student", {}),
    ("POST", "/v1/sync/verify"): ("control", {"json": {"content": True}}),
    ("GET", "/v1/sync/operations"): ("student", {}),
    ("GET", "/v1/sync/operations/<id>"): ("student", {"path": "/v1/sync/operations/{operation}"}),
    ("POST", "/v1/sync/retry"): ("control", {"json": {}}),
    ("GET", "/v1/sync/unsent"): ("control", {}),
    ("GET", "/v1/sync/conflicts"): ("control", {}),
    ("GET", "/v1/sync/bundle"): ("control", {}),
    ("POST", "/v1/sync/bundle/export"): ("control", {}),
    ("POST", "/v1/sync/bundle/import"): ("control", {}),
    ("GET", "/metrics"): ("open", {}),
    ("GET", "/"): ("open", {}),
    ("GET", "/pages/status"): ("open", {}),
    ("GET", "/pages/student"): ("student", {}),
    ("GET", "/pages/carrel.css"): ("open", {}),
    ("GET", "/pages/live.js"): ("open", {}),
    ("GET", "/pages/device.js"): ("open", {}),
    ("GET", "/pages/icon.svg"): ("open", {}),
    ("POST", "/v1/enrol"): ("control", {"json": {"cloud_url": "http://127.0.0.1:9", "code": GOOD_CODE, "name": "desk"}}),
}


def routes(app: flask.Flask) -> set[tuple[str, str]]:
    """(method, rule) of everything the application answers."""
    return {(m, r.rule) for r in app.url_map.iter_rules() for m in r.methods - {"HEAD", "OPTIONS"}}  # type: ignore[operator]


@cache
def described() -> dict[str, Any]:
    """The document, as it is served."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, open_device(Path(folder)) as device:
        document: dict[str, Any] = device.client.get("/v1/openapi.json").get_json()
        return document


def operation(method: str, rule: str) -> dict[str, Any]:
    return described()["paths"][rule.replace("<", "{").replace(">", "}")][method.lower()]  # type: ignore[no-any-return]


def check(answer: TestResponse, method: str, rule: str) -> None:
    """The answer's status, media type and body are documented for this operation."""
    responses = operation(method, rule)["responses"]
    assert str(answer.status_code) in responses, (method, rule, answer.status_code)
    content = responses[str(answer.status_code)].get("content")
    if content is None:
        assert answer.data == b""
        return
    schema = content[answer.mimetype]["schema"]
    body = answer.get_json() if answer.is_json else answer.get_data(as_text=True)
    Draft202012Validator({**schema, "components": described()["components"]}).validate(body)
    if answer.status_code >= 400:
        problem = answer.get_json()
        assert problem["status"] == answer.status_code
        assert f"`{problem['code']}`" in responses[str(answer.status_code)]["description"] or isinstance(problem.get("errors"), list)


def ask(device: DeviceUnderTest, method: str, rule: str, **changes: Any) -> TestResponse:
    """Sends the example of a route, as the one who may, with changes to the request."""
    who, options = EXAMPLES[method, rule]
    options = {k: v for k, v in {**options, **changes}.items() if v is not None}
    clients = {
        "open": lambda: ApiClient(device.client, ""),
        "app": device.in_app,
        "student": device.signed_in,
        "control": device.controlling,
    }
    client: ApiClient = clients[options.pop("who", who)]()
    path = options.pop("path", rule)
    if rule == "/v1/sessions" and method == "POST":
        device.controlling().post(f"/students/{ADA}/pin", json={"pin": PIN})
    if rule in ("/v1/apps/<id>", "/v1/launches", "/v1/launches/redeem"):
        path, options = _with_app(device, path, options)
    if "{item}" in path:
        path = path.replace("{item}", device.signed_in().post("/plan").get_json()["items"][0]["id"])
    if "{operation}" in path:
        path = path.replace("{operation}", device.signed_in().post("/attempts", json=attempt()).get_json()["id"])
    if rule == "/v1/sync/bundle/import":
        lay_down(device.database.path.parent, INCOMING, to_json(FromSchool("epoch")))
    return client.request(method, path, **options)


def _with_app(device: DeviceUnderTest, path: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and options with an app's id for {app}, and a launch code of it for {code}."""
    found = device.controlling().get("/apps").get_json()["items"]
    added = found[0]["id"] if found else dashed(device.api.access.apps.add("Any", [PAGES])[0].id)
    if options.get("json") == {"app_id": "{app}"}:
        options |= {"json": {"app_id": added}}
    if options.get("json") == {"code": "{code}"}:
        options |= {"json": {"code": device.controlling().post("/launches", json={"app_id": added}).get_json()["code"]}}
    return path.replace("{app}", added), options


ALL = sorted(EXAMPLES)
WITH_TOKEN = [key for key in ALL if EXAMPLES[key][0] != "open"]
WITH_BODY = [key for key in ALL if "json" in EXAMPLES[key][1]]


def test_every_route_is_documented_and_has_an_example(device: DeviceUnderTest) -> None:
    documented = {(m.upper(), p.replace("{", "<").replace("}", ">")) for p, operations in described()["paths"].items() for m in operations}
    assert routes(device.app) == documented == set(EXAMPLES)


def test_the_document_is_valid_openapi() -> None:
    validate(described())


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [o["operationId"] for operations in described()["paths"].values() for o in operations.values()]
    assert len(set(names)) == len(names)


def test_limits_in_the_document_are_those_of_the_registry() -> None:
    fields = described()["components"]["schemas"]["NewAttempt"]["properties"]
    assert (fields["confidence"]["minimum"], fields["confidence"]["maximum"]) == (1, 4)
    assert fields["answer"]["maxLength"] == 4000
    assert fields["purpose"]["enum"] == ["plan", "review", "quiz", "free"]


@pytest.mark.parametrize(("method", "rule"), ALL)
def test_the_example_of_every_route_is_answered_as_documented(device: DeviceUnderTest, method: str, rule: str) -> None:
    device.signed_in().post("/attempts", json=attempt())
    if (method, rule) == ("GET", "/v1/plan"):
        device.signed_in().post("/plan")
    answer = ask(device, method, rule)
    assert answer.status_code < 300, answer.get_data(as_text=True)
    check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), WITH_TOKEN)
def test_without_a_token_every_route_that_needs_one_refuses(device: DeviceUnderTest, method: str, rule: str) -> None:
    answer = ask(device, method, rule, who="open")
    assert answer.status_code == 401
    check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), ALL)
def test_an_unknown_parameter_is_refused_everywhere(device: DeviceUnderTest, method: str, rule: str) -> None:
    answer = ask(device, method, rule, query_string={"colour": "red"})
    assert answer.status_code == 422
    check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), ALL)
def test_any_value_of_any_parameter_is_answered_as_documented(device: DeviceUnderTest, method: str, rule: str) -> None:
    for parameter in operation(method, rule)["parameters"]:
        for value in ODD_TEXTS:
            place: dict[str, Any] = {"query_string": {parameter["name"]: value}}
            if parameter["in"] == "path":
                place = {"path": rule.replace("<id>", quote(value, safe=""))}
            answer = ask(device, method, rule, **place)
            assert answer.status_code < 500, (parameter["name"], value[:20])
            check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), WITH_BODY)
@pytest.mark.parametrize("body", [b"{", b'{"colour": "red"}', b"[[[", b"5"])
def test_a_bad_body_is_refused_everywhere(device: DeviceUnderTest, method: str, rule: str, body: bytes) -> None:
    answer = ask(device, method, rule, json=None, data=body, content_type="application/json")
    assert answer.status_code in (400, 422)
    check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), WITH_BODY)
def test_another_media_type_and_a_body_over_the_limit_are_refused_everywhere(device: DeviceUnderTest, method: str, rule: str) -> None:
    for options, status in (
        ({"content_type": "text/plain", "data": b"{}"}, 415),
        ({"content_type": "application/json", "data": b" " * 300_000}, 413),
    ):
        answer = ask(device, method, rule, json=None, **options)
        assert answer.status_code == status
        check(answer, method, rule)


@pytest.mark.parametrize(("method", "rule"), ALL)
def test_a_stranger_is_refused_everywhere(device: DeviceUnderTest, method: str, rule: str) -> None:
    answer = ask(device, method, rule, headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.get_json()["code"]) == (403, "origin_not_allowed")
    check(answer, method, rule)


@pytest.mark.parametrize("rule", sorted({rule for _, rule in ALL}))
def test_a_method_that_an_address_does_not_take_is_refused_in_the_one_shape(device: DeviceUnderTest, rule: str) -> None:
    allowed = {method for method, known in ALL if known == rule}
    # A GET may be asked as HEAD; /questions/next is also an address of the pattern /questions/<id>.
    for method in set(METHODS) - allowed - ({"HEAD"} if "GET" in allowed else set()):
        answer = device.client.open(rule.replace("<id>", ID), method=method)
        assert (answer.status_code, answer.content_type) == (405, PROBLEM), method
        assert allowed <= set(answer.headers["Allow"].split(", "))
        if method != "HEAD":
            assert answer.get_json()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/pages", "/pages/nothing.js", "/v1", "/v2/me", "/v1/nothing", "/v1/me/..", "/v1/%00", "/v1/questions/%ff"]
)
def test_an_unknown_address_is_refused_in_the_one_shape(device: DeviceUnderTest, path: str) -> None:
    answer = device.signed_in()._client.get(path, headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.content_type) in {(404, PROBLEM), (401, PROBLEM)}


def test_a_mistake_of_ours_is_answered_in_the_one_shape_and_tells_nothing(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ValueError("the-secret")

    object.__setattr__(device.api, "sync_state", broken)
    answer = device.client.get("/v1/status")
    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal")
    assert "the-secret" not in answer.get_data(as_text=True)
    check(answer, "GET", "/v1/status")
