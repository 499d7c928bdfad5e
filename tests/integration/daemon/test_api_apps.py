"""Learning apps: registered, launched, removed; and what a page may do with which token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from daemon.access.launch_codes import CODE_LIFE_MS, CODES_MAX, PAGE_TOKEN_LIFE_MS
from tests.support.device import ADA, ApiClient, DeviceUnderTest

PIN = "4711"
FRACTIONS, READING = "http://localhost:3000", "https://reading.example"


def add(device: DeviceUnderTest, name: str, *origins: str) -> dict[str, Any]:
    answer = device.controlling().post("/apps", json={"name": name, "origins": list(origins)})
    assert answer.status_code == 201, answer.get_json()
    return dict(answer.get_json())


def launch(device: DeviceUnderTest, added: dict[str, Any]) -> str:
    return str(device.controlling().post("/launches", json={"app_id": added["app"]["id"]}).get_json()["code"])


def redeem(device: DeviceUnderTest, code: str, origin: str | None) -> TestResponse:
    headers = {"Origin": origin} if origin else {}
    return device.client.post("/v1/launches/redeem", json={"code": code}, headers=headers)


def signed_in_page(device: DeviceUnderTest, added: dict[str, Any], origin: str) -> ApiClient:
    """A page's session, from the launch code to the student's token."""
    device.controlling().post(f"/students/{ADA}/pin", json={"pin": PIN})
    page = ApiClient(device.client, redeem(device, launch(device, added), origin).get_json()["token"])
    session = page.post("/sessions", json={"username": "ada", "pin": PIN}, headers={"Origin": origin})
    assert session.headers["Access-Control-Allow-Origin"] == origin
    return ApiClient(device.client, session.get_json()["token"])


def test_a_registered_app_is_listed_and_its_token_is_shown_once_and_not_stored(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions", FRACTIONS)
    listed = device.controlling().get("/apps").get_json()["items"]
    assert [(a["name"], a["origins"]) for a in listed] == [("Fractions", [FRACTIONS])]
    assert added["token"] not in str(listed) + str(device.rows("SELECT * FROM apps"))
    assert ApiClient(device.client, added["token"]).get("/students").status_code == 200


def test_names_and_origins_belong_to_one_app(device: DeviceUnderTest) -> None:
    add(device, "Fractions", FRACTIONS)
    for name, origins in (("Fractions", []), ("Other", [FRACTIONS]), ("own", [])):
        refused = device.controlling().post("/apps", json={"name": name, "origins": origins})
        assert (refused.status_code, refused.get_json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    "origin", ["*", "null", "http://localhost:3000/", "http://LOCALHOST", "localhost:3000", "file://", "http://a b", "http://u@h", ""]
)
def test_what_is_no_origin_cannot_be_registered(device: DeviceUnderTest, origin: str) -> None:
    assert device.controlling().post("/apps", json={"name": "x", "origins": [origin]}).status_code == 422


def test_only_the_command_line_registers_lists_and_removes_apps(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions")
    for client in (device.in_app(), device.signed_in(), ApiClient(device.client, added["token"])):
        assert client.post("/apps", json={"name": "x"}).status_code == 403
        assert client.get("/apps").status_code == 403
        assert client.delete(f"/apps/{added['app']['id']}").status_code == 403


def test_a_removed_app_is_worth_nothing_from_the_very_next_request(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions", FRACTIONS)
    student, code = signed_in_page(device, added, FRACTIONS), launch(device, added)
    page = redeem(device, launch(device, added), FRACTIONS).get_json()["token"]
    assert device.controlling().delete(f"/apps/{added['app']['id']}").status_code == 204
    assert student.get("/me").status_code == 401
    assert [ApiClient(device.client, token).get("/students").status_code for token in (added["token"], page)] == [401, 401]
    assert redeem(device, code, FRACTIONS).status_code == 403
    assert device.controlling().delete(f"/apps/{added['app']['id']}").status_code == 404


def test_a_page_gets_a_token_for_its_launch_code_and_works_with_it(device: DeviceUnderTest) -> None:
    student = signed_in_page(device, add(device, "Fractions", FRACTIONS), FRACTIONS)
    answer = student.get("/me", headers={"Origin": FRACTIONS, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, FRACTIONS)


def test_a_launch_code_is_good_once(device: DeviceUnderTest) -> None:
    code = launch(device, add(device, "Fractions", FRACTIONS))
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: redeem(device, code, FRACTIONS).status_code, range(16)))
    assert sorted(statuses) == [201] + [403] * 15


@pytest.mark.parametrize("origin", [None, READING])
def test_a_launch_code_in_the_wrong_hands_is_refused_and_used_up(device: DeviceUnderTest, origin: str | None) -> None:
    add(device, "Reading", READING)
    code = launch(device, add(device, "Fractions", FRACTIONS))
    refused = redeem(device, code, origin)
    assert (refused.status_code, refused.get_json()["code"]) == (403, "launch_refused")
    assert redeem(device, code, FRACTIONS).get_json()["code"] == "launch_refused"


def test_codes_and_the_tokens_of_pages_end(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions", FRACTIONS)
    code, other = launch(device, added), launch(device, added)
    token = redeem(device, other, FRACTIONS).get_json()["token"]
    device.clock.advance(CODE_LIFE_MS)
    assert redeem(device, code, FRACTIONS).status_code == 403
    assert ApiClient(device.client, token).get("/students").status_code == 200
    device.clock.advance(PAGE_TOKEN_LIFE_MS)
    assert ApiClient(device.client, token).get("/students").status_code == 401


def test_a_bounded_number_of_codes_waits(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions", FRACTIONS)
    for _ in range(CODES_MAX):
        launch(device, added)
    assert device.controlling().post("/launches", json={"app_id": added["app"]["id"]}).status_code == 429


def test_an_app_launches_itself_and_no_other(device: DeviceUnderTest) -> None:
    added, other = add(device, "Fractions", FRACTIONS), add(device, "Reading", READING)
    fractions = ApiClient(device.client, added["token"])
    assert fractions.post("/launches").get_json()["origins"] == [FRACTIONS]
    assert fractions.post("/launches", json={"app_id": other["app"]["id"]}).status_code == 403
    assert device.in_app().post("/launches").status_code == 403, "the account's own app has no pages here"


def test_who_has_no_pages_is_told_what_would_give_some(device: DeviceUnderTest) -> None:
    added = add(device, "Fractions")
    of_app = device.controlling().post("/launches", json={"app_id": added["app"]["id"]})
    assert (of_app.status_code, of_app.get_json()["detail"]) == (403, "This app has no web pages: it was added without an origin.")
    for client in (device.in_app(), device.controlling()):
        of_account = client.post("/launches")
        assert of_account.status_code == 403
        assert "This account has no web pages" in of_account.get_json()["detail"] and "allowed_origins" in of_account.get_json()["detail"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_daemons_own_address_is_no_apps_address(device: DeviceUnderTest, host: str) -> None:
    own = f"http://{host}"
    refused = device.controlling().post("/apps", json={"name": "Fractions", "origins": [FRACTIONS, own]})
    assert refused.status_code == 422
    [problem] = refused.get_json()["errors"]
    assert problem["path"] == "$.origins[1]" and "the daemon's own address" in problem["message"]
    add(device, "Fractions", f"{own}:3000")


def test_a_page_cannot_use_the_tokens_of_another_app_or_of_the_command_line(device: DeviceUnderTest) -> None:
    fractions, reading = add(device, "Fractions", FRACTIONS), add(device, "Reading", READING)
    student = signed_in_page(device, fractions, FRACTIONS)
    tokens = [
        (student.token, "/me"),
        (fractions["token"], "/students"),
        (device.in_app().token, "/students"),
        (device.controlling().token, "/apps"),
    ]
    for token, path in tokens:
        refused = ApiClient(device.client, token).get(path, headers={"Origin": READING})
        assert (refused.status_code, refused.get_json()["code"]) == (403, "origin_not_allowed")
    assert ApiClient(device.client, reading["token"]).get("/students", headers={"Origin": READING}).status_code == 200
