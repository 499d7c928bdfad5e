"""Who reaches the API at all: hosts, origins, media types, methods, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import DeviceUnderTest, Settings, attempt, open_device

APP = "http://localhost:3000"
STRANGER = "https://evil.example"


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    """A device whose API may be used by pages of one origin."""
    with open_device(tmp_path, Settings(allowed_origins=(APP,))) as opened:
        yield opened


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"])
def test_the_daemons_own_names_are_answered(device: DeviceUnderTest, host: str) -> None:
    assert device.client.get("/v1/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1:8751",
        "127.0.0.1.:80",
        "",
        "localhost:",
        "localhost:80:80",
        "::1",
        "[::1",
        "127.1",
    ],
)
def test_any_other_host_is_refused(device: DeviceUnderTest, host: str) -> None:
    refused = device.client.get("/v1/health", headers={"Host": host})
    assert (refused.status_code, refused.get_json()["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("headers", [{"Origin": STRANGER}, {"Origin": "null"}, {"Origin": ""}, {"Origin": "http://localhost:3000"},
                                     {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])  # fmt: skip
def test_pages_of_other_origins_are_refused(device: DeviceUnderTest, headers: dict[str, str]) -> None:
    ada = device.signed_in()
    for answer in (
        ada.get("/me", headers=headers),
        ada.post("/attempts", json=attempt(), headers=headers),
        ada.get("/nowhere", headers=headers),
    ):
        assert (answer.status_code, answer.get_json()["code"]) == (403, "origin_not_allowed")
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert device.rows("SELECT count(*) FROM question_attempts") == [(0,)]


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}])
def test_programs_and_the_daemons_own_pages_are_answered(device: DeviceUnderTest, headers: dict[str, str]) -> None:
    assert device.signed_in().get("/me", headers=headers).status_code == 200


def test_a_listed_origin_is_answered_with_cors_headers(listed: DeviceUnderTest) -> None:
    answer = listed.signed_in().get("/me", headers={"Origin": APP, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"], answer.headers["Vary"]) == (200, APP, "Origin")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert listed.signed_in().get("/me", headers={"Origin": STRANGER}).status_code == 403


def test_refusals_can_be_read_by_a_listed_origin(listed: DeviceUnderTest) -> None:
    assert listed.client.get("/v1/me", headers={"Origin": APP}).headers["Access-Control-Allow-Origin"] == APP


def test_the_preflight_of_a_listed_origin_is_answered_and_no_other(listed: DeviceUnderTest) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Private-Network": "true"}
    answer = listed.client.options("/v1/attempts", headers={"Origin": APP, **asked})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, APP)
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, X-Request-Id"
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    assert listed.client.options("/v1/attempts", headers={"Origin": STRANGER, **asked}).status_code == 403


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"])
@pytest.mark.parametrize("path", ["/attempts", "/sync", "/sessions", "/launches"])
def test_a_body_that_is_not_json_is_refused(device: DeviceUnderTest, path: str, media_type: str) -> None:
    refused = device.signed_in().post(path, data=b'{"question_id": "x"}', content_type=media_type)
    assert (refused.status_code, refused.get_json()["code"]) == (415, "unsupported_media_type")


def test_a_compressed_body_is_refused_by_its_header_rather_than_as_bad_json(device: DeviceUnderTest) -> None:
    refused = device.signed_in().post("/attempts", json=attempt(), headers={"Content-Encoding": "gzip"})
    assert (refused.status_code, refused.get_json()["code"]) == (415, "unsupported_media_type")
    assert device.signed_in().post("/attempts", json=attempt(), headers={"Content-Encoding": "identity"}).status_code == 201


def test_json_may_name_its_encoding(device: DeviceUnderTest) -> None:
    import json

    answer = device.signed_in().post("/attempts", data=json.dumps(attempt()), content_type="application/json; charset=utf-8")
    assert answer.status_code == 201


def test_every_answer_carries_the_security_headers_and_no_cookie(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    for answer in (ada.get("/me"), ada.get("/nowhere"), device.client.get("/v1/me"), ada.request("PUT", "/me")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/me/", "//me", "/questions/not-an-id", "/plan/items/x"])
def test_an_address_that_is_not_there_is_not_found_and_never_redirected(device: DeviceUnderTest, path: str) -> None:
    method = "PATCH" if "items" in path else "GET"
    answer = device.signed_in().request(method, path, **({"json": {"status": "done"}} if method == "PATCH" else {}))
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_reading_changes_nothing(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt())
    ada.get("/mastery")
    before = device.rows(
        "SELECT (SELECT count(*) FROM sync_operations), (SELECT max(op_no) FROM sync_operations), (SELECT count(*) FROM study_plans)"
    )
    for path in (
        "/health",
        "/status",
        "/students",
        "/me",
        "/topics",
        "/questions/next",
        "/attempts",
        "/mastery",
        "/plan",
        "/sync/operations",
    ):
        ada.get(path)
    after = device.rows(
        "SELECT (SELECT count(*) FROM sync_operations), (SELECT max(op_no) FROM sync_operations), (SELECT count(*) FROM study_plans)"
    )
    assert before == after


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=1&limit=2",
        "limit=" + "9" * 5000,
        "colour=red",
        "retired=maybe",
        "topic_id=x",
        "student_id=x",
        "student_id=null",
        "cursor=%00",
    ],
)
def test_a_bad_query_is_refused_with_the_parameters_name(device: DeviceUnderTest, query: str) -> None:
    refused = device.signed_in().get(f"/concepts?{query}")
    assert refused.status_code == 422
    assert [e["path"] for e in refused.get_json()["errors"]] == [f"query.{query.partition('=')[0]}"]
