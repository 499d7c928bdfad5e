"""Teachers and administrators sign in, students through their device; nobody else does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner
from flask import Flask

from cloud_api.access import passwords, tries
from cloud_api.access.accounts import Account, find_account, set_password
from cloud_api.access.doorkeeper import CSRF_HEADER, KNOWN, PLAIN_COOKIE, SECURE_COOKIE, Doorkeeper
from cloud_api.access.known_browsers import KNOWN_MS, known_by, read_proofs
from cloud_api.cli import main
from cloud_api.config import SignIn as SignInSettings
from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication, lock_for_editing
from domain.errors import InvalidInput, RateLimited
from domain.ids import dashed
from tests.security.cloud.staff import OWN_PAGE, PASSWORD, Staffroom
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


@pytest.fixture
def whoami(app: Flask, school: SchoolBuilder, clock: ManualClock) -> str:
    """A page that asks who is there, as every page does."""
    doorkeeper = Doorkeeper(school.database, clock, SignInSettings())

    @app.route("/whoami", methods=["GET", "POST"])
    def page() -> dict[str, Any]:
        user = doorkeeper.demand("teacher", "admin")
        return {"role": user.role, "id": dashed(user.id), "classes": sorted(user.class_ids)}

    return "/whoami"


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["code"]


def retire(school: SchoolBuilder, username: str) -> None:
    with school.database.transaction() as cursor:
        lock_for_editing(cursor, school.id)
        cursor.execute("SELECT id, role, username, display_name FROM users WHERE school_id = %s AND username = %s", (school.id, username))
        id_, role, name, shown = cursor.fetchone()  # type: ignore[misc]
        publication = Publication(school.id)
        row = {"id": id_, "role": role, "username": name, "display_name": shown, "external_id": None}
        publication.put("users", row | {"retired_at_ms": school.clock.now_ms()})
        publication.write(cursor, school.clock.now_ms())


def test_a_teacher_and_an_administrator_sign_in_and_are_told_who_they_are(staffroom: Staffroom, whoami: str) -> None:
    client = staffroom.app.test_client()
    for username, role in (("grace", "teacher"), (" GRACE ", "teacher"), ("root", "admin")):
        answer = staffroom.post(username)
        assert answer.status_code == 201
        assert answer.get_json()["user"]["role"] == role
        found = client.get(whoami, headers={"Authorization": f"Bearer {answer.get_json()['token']}"})
        assert found.get_json()["role"] == role


def test_the_school_may_be_named_and_need_not_be_where_there_is_one(staffroom: Staffroom, school: SchoolBuilder) -> None:
    name = school.value("SELECT name FROM schools")
    assert staffroom.post("grace", body={"school": name}).status_code == 201
    assert staffroom.post("grace", body={"school": None}).status_code == 201
    SchoolBuilder.build(school.database, school.clock)
    assert code(staffroom.post("grace", body={"school": None})) == (403, "wrong_password")


def test_whoever_may_not_sign_in_is_refused_as_a_wrong_password_is(staffroom: Staffroom, school: SchoolBuilder) -> None:
    retire(school, "root")
    school.add_user("alan", "teacher")  # without a password
    refusals = [staffroom.post("grace", "wrong"), staffroom.post("nobody"), staffroom.post("ada"), staffroom.post("root")]
    refusals += [staffroom.post("alan"), staffroom.post("grace", "x" * 10_000), staffroom.post("grace", body={"school": "no such school"})]
    other = SchoolBuilder.build(school.database, school.clock)
    refusals += [staffroom.post("grace", body={"school": other.id})]
    bodies = [{key: value for key, value in refusal.get_json().items() if key != "instance"} for refusal in refusals]
    assert [code(refusal) for refusal in refusals] == [(403, "wrong_password")] * len(refusals)
    assert all(body == bodies[0] for body in bodies)


def test_somebody_who_does_not_exist_costs_the_same_work(staffroom: Staffroom, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []

    class Counting:
        def __init__(self, hasher: Any) -> None:
            self._hasher = hasher

        def verify(self, password_hash: str, password: bytes) -> bool:
            worked.append(password_hash.rpartition("$")[0].rpartition("$")[0])  # the settings
            return bool(self._hasher.verify(password_hash, password))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._hasher, name)

    monkeypatch.setattr(passwords, "_hasher", Counting(passwords._hasher))
    for username, password in (("grace", "wrong"), ("nobody", "wrong"), ("ada", PASSWORD), ("grace", "x" * 10_000)):
        staffroom.post(username, password)
    assert len(worked) == 4
    assert len(set(worked)) == 1


def test_wrong_tries_at_an_account_make_the_next_one_wait_ever_longer_and_the_right_password_too(
    staffroom: Staffroom, clock: ManualClock
) -> None:
    free = tries.by_account("", "").free
    for _ in range(free):
        assert code(staffroom.post("grace", "wrong")) == (403, "wrong_password")
    waits = []
    for _ in range(12):
        refused = staffroom.post("grace")
        assert code(refused) == (429, "rate_limited")
        waits.append(int(refused.headers["Retry-After"]))
        clock.advance(waits[-1] * 1000)
        staffroom.post("grace", "wrong")
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (tries.FIRST_WAIT_MS / 1000, tries.WAIT_MAX_MS / 1000)
    assert staffroom.post("root").status_code == 201  # another's tries are another's
    clock.advance(tries.WAIT_MAX_MS)
    assert staffroom.post("grace").status_code == 201
    assert code(staffroom.post("grace", "wrong")) == (403, "wrong_password")  # forgotten with the right one


def test_the_same_holds_for_somebody_who_does_not_exist(staffroom: Staffroom) -> None:
    answers = [code(staffroom.post("nobody", "wrong")) for _ in range(tries.by_account("", "").free + 1)]
    assert answers[-2:] == [(403, "wrong_password"), (429, "rate_limited")]


def test_one_address_cannot_try_one_password_at_everybody(staffroom: Staffroom) -> None:
    free = tries.by_address("").free
    with staffroom.school.database.transaction() as cursor:
        for _ in range(free - 1):
            tries.begin(cursor, tries.by_address("127.0.0.1"), staffroom.school.clock.now_ms())
    assert staffroom.post("grace").status_code == 201  # a right one is not counted
    assert code(staffroom.post("somebody", "wrong")) == (403, "wrong_password")
    assert code(staffroom.post("grace")) == (429, "rate_limited")


def test_in_a_browser_that_knows_somebody_others_wrong_tries_lock_nobody_out(staffroom: Staffroom) -> None:
    at_home, _ = staffroom.browser("grace")
    sent = {"username": "grace", "password": PASSWORD, "school": staffroom.school.id, "cookie": True}
    with staffroom.school.database.transaction() as cursor:
        for counter in (tries.by_address("127.0.0.1"), tries.by_account(staffroom.school.id, "grace")):
            for _ in range(counter.free):
                tries.begin(cursor, counter, staffroom.school.clock.now_ms())
    assert code(staffroom.post("grace")) == (429, "rate_limited"), "in any other browser"
    for _ in range(3):
        assert at_home.post("/v1/sessions", json=sent, headers=OWN_PAGE).status_code == 201
    assert code(at_home.post("/v1/sessions", json=sent | {"username": "root"}, headers=OWN_PAGE)) == (429, "rate_limited"), (
        "it knows grace only"
    )
    wrong = [code(at_home.post("/v1/sessions", json=sent | {"password": "wrong"}, headers=OWN_PAGE))[0] for _ in range(6)]
    assert wrong == [403] * 5 + [429], "whoever sits there is slowed down as well"


def test_a_browser_knows_nobody_any_more_after_a_new_password_or_half_a_year_and_several_people_while_it_does(
    staffroom: Staffroom, school: SchoolBuilder, clock: ManualClock
) -> None:
    def account(username: str) -> Account:
        with school.database.transaction(read_only=True) as cursor:
            found = find_account(cursor, school.id, username)
        assert found is not None
        return found

    client, _ = staffroom.browser("grace")
    sent = {"username": "root", "password": PASSWORD, "school": school.id, "cookie": True}
    for _ in range(2):
        assert client.post("/v1/sessions", json=sent, headers=OWN_PAGE).status_code == 201
    cookie = client.get_cookie(PLAIN_COOKIE + KNOWN)
    assert cookie is not None and cookie.http_only
    proofs = read_proofs(cookie.value)
    assert [known_by(account(name), proofs, clock.now_ms()) for name in ("root", "grace")] == proofs
    assert known_by(account("grace"), proofs, clock.now_ms() + KNOWN_MS + 1) is None
    assert known_by(account("grace"), proofs, clock.now_ms() - KNOWN_MS - 1) is None
    set_password(school.database, school.clock, school.ids, school.id, "grace", "another horse")
    assert known_by(account("grace"), proofs, clock.now_ms()) is None
    assert known_by(account("root"), proofs, clock.now_ms()) == proofs[0]


@pytest.mark.parametrize("cookie", ["", "~", "..", "1.2.3", "x.y." + "0" * 64, "ä.b.c", "1" * 4_000, "~" * 500, "-9" * 60])
def test_a_proof_that_is_none_is_as_good_as_no_proof(staffroom: Staffroom, cookie: str) -> None:
    client = staffroom.app.test_client()
    client.set_cookie(PLAIN_COOKIE + KNOWN, cookie)
    sent = {"username": "grace", "password": "wrong", "school": staffroom.school.id}
    answers = [code(client.post("/v1/sessions", json=sent))[0] for _ in range(6)]
    assert answers == [403] * 5 + [429]


def test_of_tries_at_the_same_moment_no_more_are_judged_than_are_free(school: SchoolBuilder) -> None:
    counter, judged = tries.by_account(school.id, "grace"), []
    barrier = threading.Barrier(20)

    def attempt() -> None:
        barrier.wait(10)
        try:
            school.database.retrying(lambda cursor: tries.begin(cursor, counter, 1_000_000))
            judged.append(1)
        except RateLimited:
            pass

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(judged) == counter.free


def test_a_session_ends_when_it_is_not_used_and_in_any_case_after_hours(staffroom: Staffroom, whoami: str, clock: ManualClock) -> None:
    client, settings = staffroom.app.test_client(), SignInSettings()
    grace = staffroom.token("grace")
    clock.advance(settings.idle_min * MINUTE_MS + 1)
    assert code(client.get(whoami, headers=grace)) == (401, "not_signed_in")
    grace = staffroom.token("grace")
    for _ in range(settings.absolute_h * 4 - 1):
        clock.advance(15 * MINUTE_MS)
        assert client.get(whoami, headers=grace).status_code == 200
    clock.advance(15 * MINUTE_MS)
    assert code(client.get(whoami, headers=grace)) == (401, "not_signed_in")


def test_a_session_that_was_begun_under_a_clock_far_ahead_ends_when_the_clock_is_right(
    staffroom: Staffroom, whoami: str, clock: ManualClock
) -> None:
    client, grace = staffroom.app.test_client(), staffroom.token("grace")
    clock._now_ms -= 30 * MINUTE_MS
    assert client.get(whoami, headers=grace).status_code == 200, "a little is nothing"
    clock._now_ms -= 3_650 * 24 * 60 * MINUTE_MS
    assert code(client.get(whoami, headers=grace)) == (401, "not_signed_in")


def test_signing_out_a_new_password_and_leaving_the_school_end_sessions_at_once(
    staffroom: Staffroom, whoami: str, school: SchoolBuilder
) -> None:
    client = staffroom.app.test_client()
    first, second, root = staffroom.token("grace"), staffroom.token("grace"), staffroom.token("root")
    assert client.delete("/v1/sessions", headers=first).status_code == 204
    assert [client.get(whoami, headers=headers).status_code for headers in (first, second, root)] == [401, 200, 200]
    set_password(school.database, school.clock, school.ids, school.id, "grace", "another one")
    assert [client.get(whoami, headers=headers).status_code for headers in (second, root)] == [401, 200]
    retire(school, "root")
    assert client.get(whoami, headers=root).status_code == 401
    assert client.delete("/v1/sessions", headers=first).status_code == 401


def test_a_page_keeps_its_session_in_a_cookie_that_scripts_and_other_sites_do_not_get(staffroom: Staffroom) -> None:
    for scheme, name in (("https", SECURE_COOKIE), ("http", PLAIN_COOKIE)):
        base = f"{scheme}://localhost"
        answer = staffroom.post("grace", body={"cookie": True}, base_url=base, headers=OWN_PAGE | {"Origin": base})
        cookies = answer.headers.getlist("Set-Cookie")
        for cookie, expected in zip(cookies, (name, name + KNOWN), strict=True):
            value, *attributes = cookie.split("; ")
            assert value.startswith(f"{expected}=")
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(attributes)
            assert ("Secure" in attributes) == (scheme == "https")
            assert not any(attribute.startswith("Domain") for attribute in attributes)
        assert answer.get_json()["token"] == ""


def test_a_change_by_cookie_needs_the_token_of_a_page_of_this_server(staffroom: Staffroom, whoami: str) -> None:
    client, own = staffroom.browser("grace")
    other = staffroom.browser("root")[1]
    assert client.get(whoami).status_code == 200
    wrong = [{}, OWN_PAGE, own | {CSRF_HEADER: other[CSRF_HEADER]}, own | {"Origin": "https://evil.example"}]
    wrong += [own | {"Sec-Fetch-Site": "cross-site"}, own | {"Sec-Fetch-Site": "same-site"}]
    for headers in wrong:
        assert code(client.post(whoami, headers=headers)) == (403, "csrf_refused"), headers
        assert code(client.delete("/v1/sessions", headers=headers)) == (403, "csrf_refused"), headers
    assert client.post(whoami, headers=own).status_code == 200
    assert client.post(whoami, headers=OWN_PAGE, data={"csrf_token": own[CSRF_HEADER]}).status_code == 200
    assert client.delete("/v1/sessions", headers=own).status_code == 204
    assert code(client.get(whoami)) == (401, "not_signed_in")


def test_no_page_of_another_site_signs_anybody_in(staffroom: Staffroom) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        assert code(staffroom.post("grace", body={"cookie": True}, headers=headers)) == (403, "csrf_refused")


def test_a_role_that_a_page_is_not_for_is_kept_out(staffroom: Staffroom, school: SchoolBuilder, clock: ManualClock) -> None:
    doorkeeper = Doorkeeper(school.database, clock, SignInSettings())

    @staffroom.app.get("/for-admins")
    def page() -> dict[str, str]:
        return {"role": doorkeeper.demand("admin").role}

    client = staffroom.app.test_client()
    assert code(client.get("/for-admins", headers=staffroom.token("grace"))) == (403, "forbidden")
    assert client.get("/for-admins", headers=staffroom.token("root")).status_code == 200


def test_a_device_signs_in_its_own_students_and_no_others(staffroom: Staffroom, school: SchoolBuilder) -> None:
    ada = school.value("SELECT id FROM users WHERE username = 'ada'")
    staffroom.add("bob", "student")
    headers = {"Authorization": f"Bearer {school.enrol(Grant('student', ada)).token}"}
    client = staffroom.app.test_client()

    def sign_in(username: str, password: str = PASSWORD) -> Any:
        return client.post("/v1/devices/password", json={"username": username, "password": password}, headers=headers)

    assert sign_in("ada").get_json() == {"student_id": ada}
    for username, password in (("ada", "wrong"), ("bob", PASSWORD), ("grace", PASSWORD), ("nobody", PASSWORD)):
        assert code(sign_in(username, password)) == (403, "wrong_password")
    assert code(client.post("/v1/devices/password", json={"username": "ada", "password": PASSWORD})) == (401, "not_signed_in")
    device_id = school.value("SELECT id FROM devices")
    with school.database.transaction() as cursor:
        enrolled.revoke(cursor, school.ids, school.id, device_id, school.clock.now_ms())
    assert code(sign_in("ada")) == (403, "device_revoked")


def test_who_signed_in_and_who_was_refused_is_written_down_without_names_or_secrets(staffroom: Staffroom, school: SchoolBuilder) -> None:
    staffroom.post("grace")
    staffroom.post("grace", "hunter2-hunter2")
    staffroom.post("grace-misspelt", "hunter2-hunter2")
    staffroom.app.test_client().delete("/v1/sessions", headers=staffroom.token("grace"))
    with school.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT action, subject IS NOT NULL FROM audit_log WHERE at_ms >= %s AND action LIKE '%%sign%%' ORDER BY id", (0,))
        assert cursor.fetchall() == [
            ("user.signed_in", True),
            ("sign_in.refused", True),
            ("sign_in.refused", False),
            ("user.signed_in", True),
            ("user.signed_out", True),
        ]
        for table in ("audit_log", "user_sessions", "wrong_tries"):
            cursor.execute(f"SELECT count(*) FROM {table} t WHERE t::text ~* 'hunter2|misspelt|grace'")
            assert cursor.fetchone() == (0,)


def test_no_password_and_no_token_is_stored_as_it_is(staffroom: Staffroom, school: SchoolBuilder) -> None:
    token = staffroom.post("grace").get_json()["token"]
    assert school.value("SELECT password_hash FROM users WHERE username = 'grace'").startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert token not in school.value("SELECT string_agg(s::text, '') FROM user_sessions s")


def test_a_hash_of_older_settings_is_renewed_by_the_next_right_password(staffroom: Staffroom, school: SchoolBuilder) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with school.database.transaction() as cursor:
        cursor.execute("UPDATE users SET password_hash = %s WHERE username = 'grace'", (weak,))
    assert staffroom.post("grace").status_code == 201
    assert "m=19456" in school.value("SELECT password_hash FROM users WHERE username = 'grace'")
    assert staffroom.post("grace").status_code == 201


def test_the_command_reads_the_password_from_standard_input_and_refuses_a_weak_one(staffroom: Staffroom, school: SchoolBuilder) -> None:
    command = ["user", "set-password", "--database-url", school.database.url, "--school", school.id, "--username", "grace"]
    assert CliRunner().invoke(main, command, input="a new password\n").output == "set\n"
    assert staffroom.post("grace", "a new password").status_code == 201
    refused = CliRunner().invoke(main, command, input="short\n")
    assert refused.exit_code == 2
    assert "8 to 200 characters" in refused.output
    with pytest.raises(InvalidInput):
        passwords.check_new_password("Margarete.Hamilton", "margarete.hamilton")


def test_a_request_that_can_be_nobodys_is_refused_with_its_place(staffroom: Staffroom) -> None:
    for username in ("a\x00b", "x" * 201, "a\nb"):
        assert code(staffroom.post(username)) == (422, "invalid")
    assert code(staffroom.post("grace", body={"role": "admin"})) == (400, "malformed_json")
