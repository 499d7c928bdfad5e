"""Signing in and out, and who may call what."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.sessions import IDLE_MAX_MS, SESSIONS_MAX
from domain.ids import dashed
from tests.support.device import ADA, BEN, CLEO, DAN, DAY_MS, START_MS, ApiClient, DeviceUnderTest, open_device


def test_a_student_signs_in_by_id_or_by_name(device: DeviceUnderTest) -> None:
    for body in ({"student_id": ADA}, {"student_id": dashed(ADA)}, {"username": "ada"}):
        answer = device.client.post("/v1/sessions", json=body)
        assert answer.status_code == 201
        session = answer.get_json()
        assert session["student"] == {"id": dashed(ADA), "username": "ada", "display_name": "Ada Ørsted"}
        assert ApiClient(device.client, session["token"]).get("/me").get_json()["id"] == dashed(ADA)


def test_the_token_itself_is_not_stored(device: DeviceUnderTest) -> None:
    token = device.signed_in().token
    assert token not in str(device.rows("SELECT * FROM student_sessions"))


def test_with_several_students_it_must_be_said_who(device: DeviceUnderTest) -> None:
    refused = device.client.post("/v1/sessions")
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "$.student_id")


def test_the_only_student_of_a_device_need_not_be_named(device: DeviceUnderTest) -> None:
    device.execute("DELETE FROM cursors WHERE scope = ?", f"student:{BEN}")
    for options in ({}, {"json": {}}):
        answer = device.client.post("/v1/sessions", **options)
        assert (answer.status_code, answer.get_json()["student"]["username"]) == (201, "ada")


@pytest.mark.parametrize(
    "body", [{"student_id": CLEO}, {"student_id": DAN}, {"username": "nobody"}], ids=["elsewhere", "teacher", "unknown"]
)
def test_only_students_of_this_device_can_sign_in(device: DeviceUnderTest, body: dict[str, str]) -> None:
    refused = device.client.post("/v1/sessions", json=body)
    assert (refused.status_code, refused.get_json()["code"]) == (404, "not_found")


def test_the_students_to_pick_from_are_those_of_this_device(device: DeviceUnderTest) -> None:
    assert [s["username"] for s in device.client.get("/v1/students").get_json()["items"]] == ["ada", "ben"]


def test_students_can_sign_in_while_cursors_are_built_anew(device: DeviceUnderTest) -> None:
    device.signed_in(ADA).patch("/me/profile", json={"grade": "7"})
    device.execute("DELETE FROM cursors")
    assert [s["username"] for s in device.client.get("/v1/students").get_json()["items"]] == ["ada"]
    assert device.signed_in(ADA).get("/me").status_code == 200


def test_a_session_ends_when_its_student_leaves_the_device_or_the_school(device: DeviceUnderTest) -> None:
    ada, ben = device.signed_in(ADA), device.signed_in(BEN)
    device.execute("DELETE FROM student_sessions WHERE student_id = ?", ADA)  # as the eviction of a scope does
    device.execute("UPDATE users SET retired_at_ms = ? WHERE id = ?", START_MS, BEN)
    assert [c.get("/me").status_code for c in (ada, ben)] == [401, 401]


def test_signing_out_ends_one_session_and_no_other(device: DeviceUnderTest) -> None:
    first, second = device.signed_in(), device.signed_in()
    assert first.delete("/sessions").status_code == 204
    assert (first.get("/me").status_code, second.get("/me").status_code) == (401, 200)


def test_a_session_lasts_with_use_and_ends_without(device: DeviceUnderTest) -> None:
    used, forgotten = device.signed_in(), device.signed_in()
    for _ in range(3):
        device.clock.advance(IDLE_MAX_MS // 2)
        assert used.get("/me").status_code == 200
    assert forgotten.get("/me").status_code == 401


def test_reading_does_not_write_the_last_use_down_each_time(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    device.clock.advance(DAY_MS // 2)
    ada.get("/me")
    assert device.rows("SELECT used_at_ms FROM student_sessions") == [(START_MS,)]
    device.clock.advance(DAY_MS)
    ada.get("/me")
    assert device.rows("SELECT used_at_ms FROM student_sessions") == [(START_MS + DAY_MS * 3 // 2,)]


def test_a_student_keeps_a_bounded_number_of_sessions(device: DeviceUnderTest) -> None:
    ben, clients = device.signed_in(BEN), []
    for _ in range(SESSIONS_MAX + 2):
        device.clock.advance(1)
        clients.append(device.signed_in(ADA))
    assert [c.get("/me").status_code for c in clients[:3]] == [401, 401, 200]
    assert (clients[-1].get("/me").status_code, ben.get("/me").status_code) == (200, 200)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YWRhOg==", "Bearer " + "a" * 300, "Bearer ÿ", "Bearer no-such-token"])
def test_without_a_valid_token_nothing_is_shown(device: DeviceUnderTest, header: str) -> None:
    refused = device.client.get("/v1/me", headers={"Authorization": header})
    assert (refused.status_code, refused.get_json()["code"]) == (401, "not_signed_in")
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_the_control_token_is_no_session_and_a_session_is_no_control_token(device: DeviceUnderTest) -> None:
    assert device.controlling().get("/me").status_code == 403
    assert device.signed_in().post("/enrol", json={"cloud_url": "http://s", "code": "c", "name": "n"}).status_code == 403
    assert device.client.post("/v1/enrol", json={}).status_code == 401


@pytest.mark.parametrize("path", ["/me", "/attempts", "/mastery", "/plan", "/questions/next", "/topics"])
def test_another_students_id_in_the_query_is_forbidden(device: DeviceUnderTest, path: str) -> None:
    ada = device.signed_in()
    refused = ada.get(path, query_string={"student_id": BEN})
    assert (refused.status_code, refused.get_json()["code"]) == (403, "forbidden")
    assert ada.get(path, query_string={"student_id": dashed(ADA)}).status_code != 403


def test_sessions_survive_a_restart(tmp_path: Path) -> None:
    with open_device(tmp_path) as before:
        token = before.signed_in().token
        copy = before.rows("SELECT * FROM student_sessions")
    (tmp_path / "second").mkdir()
    with open_device(tmp_path / "second") as after:
        after.execute("INSERT INTO student_sessions VALUES (?, ?, ?, ?)", *copy[0])
        assert ApiClient(after.client, token).get("/me").status_code == 200
