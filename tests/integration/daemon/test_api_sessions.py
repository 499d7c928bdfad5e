"""Signing in and out, and who may call what."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from daemon.access.pins import KEY_FILE
from daemon.access.sessions import MINUTE_MS, SESSIONS_MAX
from daemon.access.sign_in import BURST_MAX, PER_S
from daemon.access.sign_in_tries import FIRST_WAIT_MS, FREE_TRIES, WAIT_MAX_MS, SignInTries, wait_ms
from daemon.inbox import _evict
from domain.errors import RateLimited, StorageFull
from domain.ids import Id, dashed
from tests.support.device import (
    ADA,
    BEN,
    CLEO,
    DAN,
    DAY_MS,
    HOUR_MS,
    START_MS,
    ApiClient,
    DeviceUnderTest,
    ManualClock,
    Settings,
    open_device,
)

PIN = "4711"
IDLE_MS = 15 * MINUTE_MS


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    """A device with one student, at a school that allows signing in without a PIN there."""
    with open_device(tmp_path, Settings(single_student_without_pin=True)) as opened:
        opened.execute("DELETE FROM cursors WHERE scope = ?", f"student:{BEN}")
        yield opened


def set_pin(device: DeviceUnderTest, student: Id = ADA, pin: str = PIN) -> TestResponse:
    return device.controlling().post(f"/students/{student}/pin", json={"pin": pin})


def sign_in(device: DeviceUnderTest, **body: Any) -> TestResponse:
    return device.in_app().post("/sessions", json=body)


def code_of(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["code"]


# --- who signs in, and with what


def test_a_student_signs_in_by_id_or_by_name_with_the_pin_that_was_set_here(device: DeviceUnderTest) -> None:
    assert set_pin(device).status_code == 204
    for body in ({"student_id": ADA}, {"student_id": dashed(ADA)}, {"username": "ada"}):
        answer = sign_in(device, **body, pin=PIN)
        assert answer.status_code == 201
        session = answer.get_json()
        assert session["student"] == {"id": dashed(ADA), "username": "ada", "display_name": "Ada Ørsted"}
        assert session["expires_at_ms"] == START_MS + IDLE_MS
        assert ApiClient(device.client, session["token"]).get("/me").get_json()["id"] == dashed(ADA)


def test_neither_token_nor_pin_is_stored_and_the_key_is_not_in_the_database(device: DeviceUnderTest, tmp_path: Path) -> None:
    set_pin(device, pin="canary-pin")
    token = sign_in(device, username="ada", pin="canary-pin").get_json()["token"]
    key = (tmp_path / KEY_FILE).read_bytes()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("device.sqlite3*"))
    for secret in (token.encode(), b"canary-pin", key, key.hex().encode()):
        assert secret not in stored
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_the_right_pin_on_a_copy_of_the_database_without_the_key_is_none(device: DeviceUnderTest, tmp_path: Path) -> None:
    set_pin(device)
    (tmp_path / KEY_FILE).unlink()
    assert code_of(sign_in(device, username="ada", pin=PIN)) == (403, "pin_not_set")
    set_pin(device)
    assert sign_in(device, username="ada", pin=PIN).status_code == 201


def test_the_same_pin_of_two_students_is_not_seen_to_be_the_same(device: DeviceUnderTest) -> None:
    set_pin(device, ADA), set_pin(device, BEN)
    (first,), (second,) = device.rows("SELECT verifier FROM student_pins")
    device.execute("UPDATE student_pins SET verifier = ? WHERE student_id = ?", first, BEN)
    device.execute("UPDATE student_pins SET verifier = ? WHERE student_id = ?", second, ADA)
    assert code_of(sign_in(device, username="ada", pin=PIN)) == (403, "wrong_pin"), "a verifier is good for its student only"


def test_a_student_without_a_pin_cannot_sign_in_before_a_teacher_has_set_one(device: DeviceUnderTest) -> None:
    assert code_of(sign_in(device, username="ada")) == (403, "pin_not_set")
    assert code_of(sign_in(device, username="ada", pin="0000")) == (403, "pin_not_set")


def test_a_pin_must_be_given_where_one_is_set(device: DeviceUnderTest) -> None:
    set_pin(device)
    refused = sign_in(device, username="ada")
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "$.pin")


def test_a_pin_lasts_thirty_days_and_setting_it_anew_lasts_thirty_more(device: DeviceUnderTest) -> None:
    set_pin(device)
    device.clock.advance(30 * DAY_MS)
    assert sign_in(device, username="ada", pin=PIN).status_code == 201
    device.clock.advance(1)
    assert code_of(sign_in(device, username="ada", pin=PIN)) == (403, "pin_expired")
    set_pin(device, pin="other")
    assert sign_in(device, username="ada", pin="other").status_code == 201


def test_a_clock_that_was_put_back_does_not_make_a_pin_last_longer(device: DeviceUnderTest) -> None:
    set_pin(device)
    device.clock._now_ms -= 2 * DAY_MS
    assert code_of(sign_in(device, username="ada", pin=PIN)) == (403, "pin_expired")


@pytest.mark.parametrize("pin", ["", "123", "1" * 65])
def test_a_pin_has_four_characters_at_least_and_an_end(device: DeviceUnderTest, pin: str) -> None:
    assert set_pin(device, pin=pin).status_code == 422


def test_a_pin_is_set_by_the_command_line_only_and_for_students_of_this_device(device: DeviceUnderTest) -> None:
    for client in (device.in_app(), device.signed_in()):
        assert client.post(f"/students/{ADA}/pin", json={"pin": PIN}).status_code == 403
    for somebody in (CLEO, DAN):
        assert set_pin(device, somebody).status_code == 404
    assert device.rows("SELECT count(*) FROM student_pins") == [(0,)]


def test_the_only_student_of_a_device_signs_in_without_a_pin_where_the_school_allows_it(alone: DeviceUnderTest) -> None:
    bodies: list[dict[str, Any]] = [{}, {"json": {}}, {"json": {"username": "ada"}}]
    for options in bodies:
        answer = alone.in_app().post("/sessions", **options)
        assert (answer.status_code, answer.get_json()["student"]["username"]) == (201, "ada")
    assert [s["pin"] for s in alone.in_app().get("/students").get_json()["items"]] == ["not_needed"]


def test_not_where_it_is_not_allowed_nor_once_a_pin_is_set_nor_once_there_are_two(alone: DeviceUnderTest, tmp_path: Path) -> None:
    (tmp_path / "strict").mkdir()
    with open_device(tmp_path / "strict") as strict:
        strict.execute("DELETE FROM cursors WHERE scope = ?", f"student:{BEN}")
        assert code_of(strict.in_app().post("/sessions")) == (403, "pin_not_set")
    alone.execute("INSERT INTO cursors (scope, cursor) VALUES (?, 1)", f"student:{BEN}")
    assert code_of(sign_in(alone, username="ada")) == (403, "pin_not_set")
    alone.execute("DELETE FROM cursors WHERE scope = ?", f"student:{BEN}")
    set_pin(alone)
    assert sign_in(alone, username="ada").status_code == 422


def test_with_several_students_it_must_be_said_who(device: DeviceUnderTest) -> None:
    refused = device.in_app().post("/sessions")
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "$.student_id")


@pytest.mark.parametrize(
    "body", [{"student_id": CLEO}, {"student_id": DAN}, {"username": "cleo"}, {"username": "nobody"}],
    ids=["elsewhere", "teacher", "name elsewhere", "unknown"],
)  # fmt: skip
def test_somebody_who_is_not_on_this_device_is_refused_as_a_wrong_pin_is(device: DeviceUnderTest, body: dict[str, str]) -> None:
    set_pin(device)
    wrong, stranger = sign_in(device, username="ada", pin="0000"), sign_in(device, **body, pin="0000")
    assert (stranger.status_code, stranger.get_json()) == (wrong.status_code, wrong.get_json()) == (403, wrong.get_json())
    assert sign_in(device, **body).get_json() == sign_in(device, username="ada").get_json()


def test_the_students_to_pick_from_are_those_of_this_device_and_only_apps_are_told(device: DeviceUnderTest) -> None:
    set_pin(device, BEN)
    listed = device.in_app().get("/students").get_json()["items"]
    assert [(s["username"], s["pin"]) for s in listed] == [("ada", "not_set"), ("ben", "set")]
    assert device.client.get("/v1/students").status_code == 401


def test_students_can_sign_in_while_cursors_are_built_anew(device: DeviceUnderTest) -> None:
    device.signed_in(ADA).patch("/me/profile", json={"grade": "7"})
    device.execute("DELETE FROM cursors")
    assert [s["username"] for s in device.in_app().get("/students").get_json()["items"]] == ["ada"]
    set_pin(device)
    assert sign_in(device, username="ada", pin=PIN).status_code == 201


# --- wrong tries


def wrong(device: DeviceUnderTest, times: int = 1) -> TestResponse:
    answers = [sign_in(device, username="ada", pin="0000") for _ in range(times)]
    return answers[-1]


def test_after_three_wrong_tries_each_next_one_waits_longer_and_the_right_pin_waits_too(device: DeviceUnderTest) -> None:
    set_pin(device)
    assert wrong(device, FREE_TRIES).status_code == 403
    for seconds in (10, 20, 40):
        for refused in (wrong(device), sign_in(device, username="ada", pin=PIN)):
            assert code_of(refused) == (429, "rate_limited")
            assert refused.headers["Retry-After"] == str(seconds)
        device.clock.advance(seconds * 1000)
        assert wrong(device).status_code == 403
    device.clock.advance(80_000)
    assert sign_in(device, username="ada", pin=PIN).status_code == 201
    assert wrong(device, FREE_TRIES).status_code == 403, "the right one has wiped the slate"


def test_the_wait_doubles_up_to_a_quarter_of_an_hour() -> None:
    assert [wait_ms(n) for n in range(FREE_TRIES + 2)] == [0] * FREE_TRIES + [FIRST_WAIT_MS, 2 * FIRST_WAIT_MS]
    assert wait_ms(20) == wait_ms(10_000) == WAIT_MAX_MS


def test_the_wait_outlives_a_restart_of_the_daemon_and_of_the_machine_and_no_clock_shortens_it(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pin(device)
    wrong(device, FREE_TRIES)
    device.clock._now_ms += 20 * DAY_MS
    assert wrong(device).status_code == 429, "the wall clock is anybody's"
    SignInTries(device.database, device.clock)  # the daemon starts anew
    assert wrong(device).status_code == 429

    clock = ManualClock()
    clock._monotonic_ms = 5
    monkeypatch.setattr("daemon.access.sign_in_tries.boot_id", lambda: "f" * 32)
    after_boot = SignInTries(device.database, clock)
    with pytest.raises(RateLimited) as first:
        after_boot.begin(ADA)
    assert first.value.retry_after_s == FIRST_WAIT_MS / 1000, "the whole wait again"
    clock.advance(FIRST_WAIT_MS - 1)
    with pytest.raises(RateLimited):
        after_boot.begin(ADA)
    clock.advance(1)
    after_boot.begin(ADA)


def test_tries_at_the_same_moment_do_not_get_more_than_their_number(device: DeviceUnderTest) -> None:
    from concurrent.futures import ThreadPoolExecutor

    set_pin(device)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: wrong(device).status_code, range(8)))
    assert statuses.count(403) == FREE_TRIES
    assert statuses.count(429) == 8 - FREE_TRIES


def test_one_students_wrong_tries_hold_nobody_else_up_and_a_new_pin_ends_the_wait(device: DeviceUnderTest) -> None:
    set_pin(device), set_pin(device, BEN)
    assert wrong(device, FREE_TRIES + 1).status_code == 429
    assert sign_in(device, username="ben", pin=PIN).status_code == 201
    set_pin(device)
    assert sign_in(device, username="ada", pin=PIN).status_code == 201


def test_tries_at_names_that_are_not_here_wait_as_well(device: DeviceUnderTest) -> None:
    answers = [sign_in(device, username=f"name{n}", pin="0000").status_code for n in range(FREE_TRIES + 1)]
    assert answers == [403] * FREE_TRIES + [429]


def test_signing_in_is_limited_in_all(alone: DeviceUnderTest) -> None:
    statuses = [alone.in_app().post("/sessions").status_code for _ in range(BURST_MAX + 1)]
    assert statuses == [201] * BURST_MAX + [429]
    alone.clock.advance(int(1000 / PER_S))
    assert alone.in_app().post("/sessions").status_code == 201


# --- how long a session lasts


def test_a_session_ends_when_its_student_leaves_the_device_or_the_school(device: DeviceUnderTest) -> None:
    ada, ben = device.signed_in(ADA), device.signed_in(BEN)
    device.execute("DELETE FROM student_sessions WHERE student_id = ?", ADA)  # as the eviction of a scope does
    device.execute("UPDATE users SET retired_at_ms = ? WHERE id = ?", START_MS, BEN)
    assert [c.get("/me").status_code for c in (ada, ben)] == [401, 401]


def test_with_a_students_scope_go_pin_tries_and_sessions(device: DeviceUnderTest) -> None:
    for student in (ADA, BEN):
        set_pin(device, student)
        device.signed_in(student)
        sign_in(device, student_id=student, pin="0000")
    device.database.write(lambda conn: _evict(conn, f"student:{ADA}"))
    for table in ("student_pins", "sign_in_tries", "student_sessions"):
        assert device.rows(f"SELECT DISTINCT student_id FROM {table}") == [(BEN,)]


def test_signing_out_ends_one_session_and_no_other(device: DeviceUnderTest) -> None:
    first, second = device.signed_in(), device.signed_in()
    assert first.delete("/sessions").status_code == 204
    assert (first.get("/me").status_code, second.get("/me").status_code) == (401, 200)


def test_another_student_at_the_same_app_ends_the_session_before_and_only_there(device: DeviceUnderTest) -> None:
    set_pin(device, BEN)
    elsewhere = device.signed_in(BEN)
    ada = device.signed_in(ADA)
    assert sign_in(device, username="ben", pin=PIN).status_code == 201
    assert (ada.get("/me").status_code, elsewhere.get("/me").status_code) == (401, 200)


def test_a_session_lasts_with_use_and_ends_a_quarter_of_an_hour_after_the_last(device: DeviceUnderTest) -> None:
    used, forgotten = device.signed_in(), device.signed_in()
    for _ in range(3):
        device.clock.advance(IDLE_MS // 2)
        assert used.get("/me").status_code == 200
    assert forgotten.get("/me").status_code == 401
    device.clock.advance(IDLE_MS + 1)
    assert used.get("/me").status_code == 401


def test_a_clock_that_jumps_back_ends_a_session_rather_than_lengthening_it(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    device.clock._now_ms -= HOUR_MS
    assert ada.get("/me").status_code == 401


def test_the_last_use_is_written_down_once_a_minute_and_on_a_full_disk_remembered(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = device.signed_in()
    device.clock.advance(MINUTE_MS)
    ada.get("/me")
    assert device.rows("SELECT used_at_ms FROM student_sessions") == [(START_MS,)]
    device.clock.advance(1)
    ada.get("/me")
    assert device.rows("SELECT used_at_ms FROM student_sessions") == [(START_MS + MINUTE_MS + 1,)]

    def full(*_: Any, **__: Any) -> None:
        raise StorageFull()

    monkeypatch.setattr(device.database, "write", full)
    for _ in range(4):
        device.clock.advance(IDLE_MS // 2)
        assert ada.get("/me").status_code == 200


def test_a_student_can_sign_out_and_an_app_be_removed_on_a_full_disk(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, write = device.signed_in(), device.database.write
    app = device.controlling().post("/apps", json={"name": "Fractions"}).get_json()

    def only_what_finishes(work: Callable[[sqlite3.Connection], Any], *, finishing: bool = False) -> Any:
        """As on a disk that is full, with the room that was kept for it (test_ballast.py)."""
        if not finishing:
            raise StorageFull()
        return write(work, finishing=True)

    monkeypatch.setattr(device.database, "write", only_what_finishes)
    assert ada.delete("/sessions").status_code == 204
    assert ada.get("/me").status_code == 401
    assert device.controlling().delete(f"/apps/{app['app']['id']}").status_code == 204
    assert ApiClient(device.client, app["token"]).get("/students").status_code == 401


def test_a_student_can_sign_out_when_nothing_at_all_can_be_written(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, other = device.signed_in(), device.signed_in()

    def full(*_: Any, **__: Any) -> None:
        raise StorageFull()

    with monkeypatch.context() as nothing_left:
        nothing_left.setattr(device.database, "write", full)
        assert ada.delete("/sessions").status_code == 204
        assert [client.get("/me").status_code for client in (ada, other)] == [401, 200]
    device.signed_in()
    assert device.rows("SELECT count(*) FROM student_sessions") == [(2,)], "the one that was ended is gone from the disk, too"


def test_a_student_keeps_a_bounded_number_of_sessions(device: DeviceUnderTest) -> None:
    ben, clients = device.signed_in(BEN), []
    for _ in range(SESSIONS_MAX + 2):
        device.clock.advance(1)
        clients.append(device.signed_in(ADA))
    assert [c.get("/me").status_code for c in clients[:3]] == [401, 401, 200]
    assert (clients[-1].get("/me").status_code, ben.get("/me").status_code) == (200, 200)


def test_sessions_survive_a_restart(tmp_path: Path) -> None:
    with open_device(tmp_path) as before:
        token = before.signed_in().token
        copy = before.rows("SELECT * FROM student_sessions")
    (tmp_path / "second").mkdir()
    with open_device(tmp_path / "second") as after:
        after.execute("INSERT INTO student_sessions VALUES (?, ?, ?, ?, ?)", *copy[0])
        assert ApiClient(after.client, token).get("/me").status_code == 200


# --- who may call what


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YWRhOg==", "Bearer " + "a" * 300, "Bearer ÿ", "Bearer no-such-token"])
def test_without_a_valid_token_nothing_is_shown(device: DeviceUnderTest, header: str) -> None:
    refused = device.client.get("/v1/me", headers={"Authorization": header})
    assert code_of(refused) == (401, "not_signed_in")
    assert refused.headers["WWW-Authenticate"] == "Bearer"


def test_each_kind_of_token_is_good_for_its_own_endpoints(device: DeviceUnderTest) -> None:
    assert device.controlling().get("/me").status_code == 403
    assert device.controlling().post("/sessions", json={}).status_code == 403
    assert device.in_app().get("/me").status_code == 403
    assert device.in_app().get("/apps").status_code == 403
    assert device.signed_in().post("/sessions", json={}).status_code == 403
    assert device.signed_in().post("/enrol", json={"cloud_url": "http://s", "code": "c", "name": "n"}).status_code == 403
    assert device.client.post("/v1/enrol", json={}).status_code == 401


@pytest.mark.parametrize("path", ["/me", "/attempts", "/mastery", "/plan", "/questions/next", "/topics"])
def test_another_students_id_in_the_query_is_forbidden(device: DeviceUnderTest, path: str) -> None:
    ada = device.signed_in()
    refused = ada.get(path, query_string={"student_id": BEN})
    assert code_of(refused) == (403, "forbidden")
    assert ada.get(path, query_string={"student_id": dashed(ADA)}).status_code != 403
