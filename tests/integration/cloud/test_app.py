"""What every route has in common: one error shape, health, headers, and a description that agrees with the routes."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import logging
import re
import sys
from typing import Any

import pytest
import urllib3
import zstandard
from flask import Flask
from flask.testing import FlaskClient

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase, Cursor, OverflowPool
from cloud_api.devices.enrolment import Grant
from cloud_api.schema import RECHECK_EVERY_MS
from domain.bodies import BODY_BYTES_MAX
from domain.errors import StorageFull
from migrations.runner import upgrade_cloud
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock

JSON = {"content_type": "application/json"}
# (options of the request, status)
BAD_BODIES: list[tuple[dict[str, Any], int]] = [
    ({"data": b"{}", "content_type": "text/plain"}, 415),
    ({"data": b"{}"}, 415),
    ({"data": b"{", **JSON}, 400),
    ({"data": b" " * (BODY_BYTES_MAX + 1), **JSON}, 413),
    ({"input_stream": io.BytesIO(b""), "content_length": 9, **JSON}, 400),
]
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "retryable", "instance", "errors"}


def _is_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert set(body) == PROBLEM_FIELDS
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:carrel:problem:{code}")
    assert body["instance"] == f"urn:carrel:request:{answer.headers['X-Request-Id']}"
    return body


def test_every_refusal_has_the_one_shape(cloud_app: FlaskClient) -> None:
    _is_problem(cloud_app.get("/nowhere"), 404, "not_found")
    assert "POST" in cloud_app.get("/v1/devices/enrol").headers["Allow"]
    _is_problem(cloud_app.get("/v1/devices/enrol"), 405, "method_not_allowed")
    _is_problem(cloud_app.options("/healthz"), 405, "method_not_allowed")
    _is_problem(cloud_app.get("/healthz", headers={"Host": "evil.example"}), 400, "untrusted_host")
    _is_problem(cloud_app.post("/v1/devices/enrol", data="code=x"), 415, "unsupported_media_type")
    _is_problem(cloud_app.post("/v1/devices/enrol", data="{}", content_type="text/plain"), 415, "unsupported_media_type")
    malformed = _is_problem(cloud_app.post("/v1/devices/enrol", json={"code": 1}), 400, "malformed_json")
    assert malformed["errors"][0]["path"] == "$.code"
    invalid = _is_problem(cloud_app.post("/v1/devices/enrol", json={"code": "", "device_name": "x" * 999}), 422, "invalid")
    assert invalid["errors"] == [{"path": "$.device_name", "code": "invalid_value", "message": invalid["detail"]}]
    unsigned = cloud_app.get("/v1/sync/head")
    _is_problem(unsigned, 401, "not_signed_in")
    assert unsigned.headers["WWW-Authenticate"] == "Bearer"


def test_a_body_beyond_the_limit_is_refused_before_and_after_inflating(cloud_app: FlaskClient) -> None:
    plain = cloud_app.post("/v1/devices/enrol", data=b"x" * (BODY_BYTES_MAX + 1), content_type="application/json")
    _is_problem(plain, 413, "body_too_large")
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    inflated = cloud_app.post("/v1/devices/enrol", data=bomb, content_type="application/json", headers={"Content-Encoding": "gzip"})
    _is_problem(inflated, 413, "body_too_large")


def test_an_unexpected_error_is_logged_once_with_the_requests_id_and_not_told(flask_cloud: Flask, caplog: pytest.LogCaptureFixture) -> None:
    @flask_cloud.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("secret detail")

    answer = flask_cloud.test_client().get("/broken", headers={"X-Request-Id": "from-the-proxy"})
    body = _is_problem(answer, 500, "internal")
    assert "secret" not in json.dumps(body)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "from-the-proxy" in record.getMessage()
    assert answer.headers["X-Request-Id"] == "from-the-proxy"


def test_a_full_disk_is_told_as_such(flask_cloud: Flask) -> None:
    @flask_cloud.get("/full")
    def full() -> str:
        raise StorageFull

    assert _is_problem(flask_cloud.test_client().get("/full"), 507, "storage_full")["retryable"]


def test_a_request_id_that_is_none_is_replaced(cloud_app: FlaskClient) -> None:
    first, second = (cloud_app.get("/healthz", headers={"X-Request-Id": "<script>"}).headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first != second


def test_answers_may_not_be_kept_framed_or_taken_for_something_else(cloud_app: FlaskClient) -> None:
    for path in ("/healthz", "/nowhere"):
        headers = cloud_app.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_without_its_database_the_server_is_healthy_but_not_ready() -> None:
    database = CloudDatabase("postgresql://nobody@127.0.0.1:1/none")
    client = create_app(CloudConfig(), database).test_client()
    assert client.get("/healthz").get_json() == {"status": "ok"}
    answer = client.get("/readyz")
    _is_problem(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    _is_problem(client.post("/v1/devices/enrol", json={"code": "x"}), 503, "unavailable")
    database.close()


def _record_newer(school: SchoolBuilder, number: int) -> None:
    with school.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO migration_history SELECT max(id) + 1, %s, '', 0, 0, '7.8.9' FROM migration_history", (f"{number}_newer",)
        )


def test_one_step_newer_is_served_and_two_are_not(cloud_app: FlaskClient, school: SchoolBuilder) -> None:
    assert cloud_app.get("/readyz").get_json()["status"] == "ready"
    _record_newer(school, 9998)
    assert cloud_app.get("/readyz").get_json() == {"status": "ready", "schema": "9998_newer"}
    _record_newer(school, 9999)
    assert "install Carrel 7.8.9" in _is_problem(cloud_app.get("/readyz"), 503, "unavailable")["detail"]
    # What readiness found holds for requests too; the process itself is healthy.
    assert "install Carrel 7.8.9" in _is_problem(cloud_app.get("/v1/sync/head"), 503, "unavailable")["detail"]
    assert cloud_app.get("/healthz").status_code == 200


def test_an_older_or_altered_schema_is_not_served(cloud_app: FlaskClient, school: SchoolBuilder) -> None:
    with school.database.transaction() as cursor:
        cursor.execute("UPDATE migration_history SET checksum = ''")
    assert "edited" in _is_problem(cloud_app.get("/readyz"), 503, "unavailable")["detail"]
    with school.database.transaction() as cursor:
        cursor.execute("DELETE FROM migration_history")
    assert "older" in _is_problem(cloud_app.get("/readyz"), 503, "unavailable")["detail"]


def test_a_server_that_was_started_too_early_serves_as_soon_as_the_database_is_migrated(fresh_database: str) -> None:
    database, clock = CloudDatabase(fresh_database), ManualClock()
    client = create_app(CloudConfig(), database, clock).test_client()
    _is_problem(client.get("/v1/sync/head"), 503, "unavailable")
    upgrade_cloud(fresh_database)
    _is_problem(client.get("/v1/sync/head"), 503, "unavailable")  # the database is not asked for every request
    clock.advance(RECHECK_EVERY_MS)
    _is_problem(client.get("/v1/sync/head"), 401, "not_signed_in")
    database.close()


def test_an_empty_database_is_not_ready(fresh_database: str) -> None:
    database = CloudDatabase(fresh_database)
    _is_problem(create_app(CloudConfig(), database).test_client().get("/readyz"), 503, "unavailable")
    database.close()


def is_for_people(rule: str) -> bool:
    """Pages, and what monitoring reads, are no part of the API."""
    return rule.startswith("/pages") or rule in ("/", "/metrics")


def test_every_route_is_described_and_every_description_has_its_route(flask_cloud: Flask) -> None:
    document = flask_cloud.test_client().get("/v1/openapi.json").get_json()
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    routed = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in flask_cloud.url_map.iter_rules()
        if not is_for_people(rule.rule)
        for method in (rule.methods or set()) - {"HEAD"}
    }
    assert described == routed


def test_the_description_refers_only_to_schemas_that_it_has_and_errors_are_problems(cloud_app: FlaskClient) -> None:
    document = cloud_app.get("/v1/openapi.json").get_json()
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    assert {
        "PushRequest",
        "PushAnswer",
        "PullRequest",
        "PullAnswer",
        "HeadAnswer",
        "EnrolRequest",
        "EnrolAnswer",
        "ProblemDetails",
    } <= names
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                assert status < "400" or list(response["content"]) == ["application/problem+json"]


def test_what_a_bad_body_is_answered_with_is_described_on_every_route_that_takes_one(cloud_app: FlaskClient, school: SchoolBuilder) -> None:
    token = school.enrol(Grant("student", school.add_user("ada").id)).token
    document = cloud_app.get("/v1/openapi.json").get_json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "requestBody" not in operation:
                continue
            for options, status in BAD_BODIES:
                answer = cloud_app.open(path, method=method.upper(), headers={"Authorization": f"Bearer {token}"}, **options)
                assert answer.status_code == status, (path, options)
                assert answer.get_json()["code"] in operation["responses"][str(status)]["description"].split(": ")[1].split(", "), path


def test_routes_with_a_token_say_so_and_the_others_do_not(cloud_app: FlaskClient) -> None:
    document = cloud_app.get("/v1/openapi.json").get_json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            unsigned = cloud_app.open(path, method=method.upper(), json={} if method == "post" else None).status_code == 401
            assert unsigned == ("security" in operation), path
            assert unsigned == ("401" in operation["responses"]), path


def test_a_device_enrols_over_http_with_a_compressed_body(live_cloud: str, school: SchoolBuilder) -> None:
    code = school.code(Grant("student", school.add_user("ada").id))
    body = zstandard.compress(json.dumps({"code": code, "unknown_field_of_a_newer_device": 1}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd"}
    with urllib3.PoolManager() as http:
        answer = http.request("POST", f"{live_cloud}/v1/devices/enrol", body=body, headers=headers, retries=False)
        assert answer.status == 201
        assert answer.json()["school_id"] == school.id


def test_an_idle_poll_takes_at_most_five_statements(school: SchoolBuilder, cloud_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = school.enrol(Grant("student", school.add_user("ada").id))
    statements: list[str] = []

    class CountingCursor(Cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            statements.append(query)
            super().execute(query, vars)

    def connect(pool: OverflowPool) -> Any:
        connection = plain_connect(pool)
        connection.cursor_factory = CountingCursor
        return connection

    plain_connect = OverflowPool._connect
    monkeypatch.setattr(OverflowPool, "_connect", connect)
    database = CloudDatabase(cloud_database)
    client = create_app(CloudConfig(), database).test_client()
    headers = {"Authorization": f"Bearer {device.token}"}
    headers["If-None-Match"] = client.get("/v1/sync/head", headers=headers).headers["ETag"]
    statements.clear()
    assert client.get("/v1/sync/head", headers=headers).status_code == 304
    database.close()
    assert 0 < len(statements) <= 5, statements


def test_the_module_for_wsgi_servers_is_configured_by_the_environment(cloud_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", cloud_database)
    monkeypatch.setenv("CARREL_CLOUD_SERVER_TRUSTED_HOSTS", "school.example")
    monkeypatch.delitem(sys.modules, "cloud_api.wsgi", raising=False)
    wsgi = importlib.import_module("cloud_api.wsgi")
    try:
        client = wsgi.app.test_client()
        assert client.get("/readyz", headers={"Host": "school.example"}).status_code == 200
        assert client.get("/readyz").status_code == 400
    finally:
        wsgi.database.close()


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    "path", ["/pages/fleets", "/pages", "/pages/fleet/", "/fleet", "/pages/fleet/devices/x/revoke", "/%00", "/pages/%F0%9F%92%A5<script>"]
)
def test_a_browser_that_mistypes_an_address_gets_a_page_that_leads_home(cloud_app: FlaskClient, path: str) -> None:
    answer = cloud_app.get(path, headers=BROWSER)
    shown = answer.get_data(as_text=True)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "There is no such page here." in shown and '<a href="/">' in shown
    assert "<script>" not in shown and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    _is_problem(
        cloud_app.get(path), 405 if path.endswith("/revoke") else 404, "method_not_allowed" if path.endswith("/revoke") else "not_found"
    )


def test_programs_are_told_by_a_problem_whatever_they_accept(cloud_app: FlaskClient) -> None:
    _is_problem(cloud_app.get("/v1/nothing", headers=BROWSER), 404, "not_found")
    _is_problem(cloud_app.get("/pages/fleets", headers={"Accept": "*/*"}), 404, "not_found")
