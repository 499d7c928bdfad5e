"""The device page as the API sees it: who may open it, and what it may do without a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from daemon.access.apps import DEVICE_PAGE
from tests.support.device import ADA, APP_TOKEN, CONTROL_TOKEN, DeviceUnderTest, Settings, attempt, open_device

OWN = "http://localhost"
PIN = "4711"
LINKED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def sign_in(device: DeviceUnderTest, headers: dict[str, str], **body: Any) -> TestResponse:
    return device.client.post("/v1/sessions", json={"username": "ada", "pin": PIN, **body}, headers=headers)


@pytest.fixture
def device(device: DeviceUnderTest) -> DeviceUnderTest:
    device.api.access.sign_in.set_pin(ADA, PIN)
    return device


def test_the_device_page_signs_a_student_in_without_a_token(device: DeviceUnderTest) -> None:
    answer = sign_in(device, {"Origin": OWN, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 201
    token = answer.get_json()["token"]
    assert device.client.get("/v1/me", headers={"Authorization": f"Bearer {token}", "Origin": OWN}).get_json()["username"] == "ada"
    assert device.rows("SELECT app_id FROM student_sessions") == [(DEVICE_PAGE,)]


def test_it_needs_the_right_pin(device: DeviceUnderTest) -> None:
    assert sign_in(device, {"Origin": OWN}, pin="0000").get_json()["code"] == "wrong_pin"
    assert device.rows("SELECT 1 FROM student_sessions") == []


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": OWN, "Sec-Fetch-Site": "cross-site"}])
def test_nobody_else_signs_in_without_a_token(device: DeviceUnderTest, headers: dict[str, str]) -> None:
    assert sign_in(device, headers).status_code in (401, 403)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/students"), ("POST", "/v1/launches"), ("GET", "/v1/me"), ("POST", "/v1/sync")])
def test_without_a_token_the_page_may_sign_in_and_nothing_else(device: DeviceUnderTest, method: str, path: str) -> None:
    assert device.client.open(path, method=method, headers={"Origin": OWN}).status_code == 401


def test_a_wrong_token_of_the_page_is_refused_and_not_overlooked(device: DeviceUnderTest) -> None:
    assert sign_in(device, {"Origin": OWN, "Authorization": "Bearer wrong"}).status_code == 401


def test_where_apps_need_no_pin_the_page_does(tmp_path: Path) -> None:
    with open_device(tmp_path, Settings(single_student_without_pin=True)) as device:
        device.execute("UPDATE users SET retired_at_ms = 1 WHERE username = 'ben'")
        assert sign_in(device, {"Authorization": f"Bearer {APP_TOKEN}"}, pin=None).status_code == 201, "apps do without"
        refused = sign_in(device, {"Origin": OWN}, pin=None)
        assert (refused.status_code, refused.get_json()["code"]) == (403, "pin_not_set")


def test_the_page_ends_nobodys_session_in_an_app_and_is_no_app_that_can_be_removed(device: DeviceUnderTest) -> None:
    ben = device.signed_in()
    assert sign_in(device, {"Origin": OWN}).status_code == 201
    assert ben.get("/me").status_code == 200
    assert device.controlling().get("/apps").get_json()["items"] == []
    assert device.controlling().post("/apps", json={"name": DEVICE_PAGE, "origins": []}).status_code == 409


def test_a_link_on_any_site_opens_the_page_in_a_window_of_its_own(device: DeviceUnderTest) -> None:
    answer = device.client.get("/", headers=LINKED)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("/", {"Sec-Fetch-Dest": "iframe"}),
        ("/", {"Sec-Fetch-Mode": "no-cors"}),
        ("/", {"Origin": "https://evil.example"}),
        ("/pages/status", {}),
        ("/pages/carrel.css", {}),
        ("/v1/status", {}),
        ("/metrics", {}),
    ],
)
def test_a_link_opens_nothing_else(device: DeviceUnderTest, path: str, changed: dict[str, str]) -> None:
    assert device.client.get(path, headers=LINKED | changed).status_code == 403


def test_the_part_for_a_student_is_for_that_student_alone(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt())
    for token in ("", APP_TOKEN, CONTROL_TOKEN):
        assert device.client.get("/pages/student", headers={"Authorization": f"Bearer {token}"}).status_code in (401, 403)
    assert "Ada" in device.signed_in().get("/pages/student").text


def test_pages_hold_no_script_and_no_style_of_their_own(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt())
    ada.post("/plan")
    for path in ("/", "/pages/status", "/pages/student"):
        html = ada.get(path).text
        assert "style=" not in html
        assert "<style" not in html
        assert "onclick" not in html
        assert html.count("<script") == html.count('<script type="module" src="/pages/')


def test_the_library_of_templates_is_loaded_by_the_first_look_at_the_page(tmp_path: Path) -> None:
    """What nobody looks at takes no memory: see `make bench`."""
    from daemon.api.routes import pages

    pages._templates.cache_clear()
    with open_device(tmp_path) as device:
        device.client.get("/v1/status")
        assert pages._templates.cache_info().currsize == 0
        device.client.get("/")
        assert pages._templates.cache_info().currsize == 1


def test_a_browser_that_mistypes_an_address_gets_a_page_that_leads_home(device: DeviceUnderTest) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for path in ("/pages/studnet", "/pages", "/plan", "/%00"):
        answer = device.client.get(path, headers=browser)
        assert (answer.status_code, answer.mimetype) == (404, "text/html"), path
        assert "There is no such page here." in answer.get_data(as_text=True)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert device.client.get(path).get_json()["code"] == "not_found"
    assert device.client.get("/v1/nothing", headers=browser).get_json()["code"] == "not_found"
