"""Codes, tokens, grants and revocation."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from cloud_api.cli import main
from cloud_api.database import CloudDatabase
from cloud_api.devices import enrolled, enrolment
from cloud_api.devices.auth import device_for, scopes_of
from cloud_api.devices.enrolment import Grant, OpenCode, code_hash, new_code, redeem
from cloud_api.people import MEMBERS, end_memberships
from cloud_api.publication import Publication, read_rows
from cloud_api.tokens import bearer, token_hash
from domain.errors import Forbidden, InvalidInput, NotFound, NotSignedIn, Unavailable
from domain.ids import Id, dashed
from tests.support.cloud import SchoolBuilder

RACERS = 200
RACER_THREADS = 25


@pytest.fixture
def student(school: SchoolBuilder) -> Id:
    return school.add_user("ada").id


def _scopes(school: SchoolBuilder, token: str) -> frozenset[str]:
    with school.database.transaction() as cursor:
        return scopes_of(cursor, device_for(cursor, token, lock=False))


def test_a_code_becomes_a_device_with_its_token_and_grants(cloud_app: FlaskClient, school: SchoolBuilder, student: Id) -> None:
    code = school.code(Grant("student", student))
    answer = cloud_app.post("/v1/devices/enrol", json={"code": code, "device_name": "Desk 7", "app_version": "1.0"})
    assert answer.status_code == 201
    body = answer.get_json()
    assert body["school_id"] == school.id
    assert len(body["token"]) == 43
    with school.database.transaction() as cursor:
        device = device_for(cursor, body["token"], lock=True)
        assert (device.id, device.name, device.school_id) == (body["device_id"], "Desk 7", school.id)
        assert scopes_of(cursor, device) == {"school", f"student:{student}"}
    assert school.value("SELECT count(*) FROM audit_log WHERE action = 'device.enrolled'") == 1
    assert body["server_epoch"] == school.value("SELECT epoch FROM server_state")


def test_neither_code_nor_token_is_stored(school: SchoolBuilder, student: Id) -> None:
    code = school.code(Grant("student", student))
    with school.database.transaction() as cursor:
        token = redeem(cursor, school.ids, code, "d", "", school.clock.now_ms()).token
    for table in ("enrolment_codes", "devices", "audit_log"):
        text = str(school.value(f"SELECT json_agg(t)::text FROM {table} t"))
        assert code not in text and code.replace("-", "") not in text and token not in text
    assert bytes(school.value("SELECT token_hash FROM devices")) == token_hash(token)


@pytest.mark.parametrize(
    "typed", [str.lower, lambda code: code.replace("-", ""), lambda code: f" {code} ", lambda code: code.replace("-", " ")]
)
def test_a_code_may_be_typed_in_either_case_and_without_dashes(school: SchoolBuilder, student: Id, typed: Any) -> None:
    code = school.code(Grant("student", student))
    with school.database.transaction() as cursor:
        assert redeem(cursor, school.ids, typed(code), "d", "", school.clock.now_ms()).school_id == school.id


def test_letters_that_look_like_digits_mean_the_digits() -> None:
    assert code_hash("O0I1-L1oi-il10") == code_hash("0011-1101-1110")
    assert code_hash("0000-0000-0000") != code_hash("0000-0000-0001")
    assert len({new_code() for _ in range(100)}) == 100


def test_a_wrong_an_expired_and_a_used_code_are_refused_alike(cloud_app: FlaskClient, school: SchoolBuilder, student: Id) -> None:
    used, expired = school.code(Grant("student", student)), school.code(Grant("student", student), expires_h=1e-9)
    assert cloud_app.post("/v1/devices/enrol", json={"code": used}).status_code == 201
    answers = [cloud_app.post("/v1/devices/enrol", json={"code": code}) for code in ("0000-0000-0000", expired, used, "", "\x00💥")]
    bodies = [{k: v for k, v in a.get_json().items() if k != "instance"} for a in answers]
    assert {a.status_code for a in answers} == {403}
    assert bodies[0]["code"] == "enrolment_refused"
    assert all(body == bodies[0] for body in bodies)
    assert school.value("SELECT count(*) FROM devices") == 1


def test_of_two_hundred_redemptions_of_a_single_use_code_at_once_exactly_one_wins(school: SchoolBuilder, student: Id) -> None:
    code = school.code(Grant("student", student))
    start = threading.Barrier(RACER_THREADS)
    results: list[str] = []

    def race() -> None:
        start.wait(30)
        for _ in range(RACERS // RACER_THREADS):
            try:
                with school.database.transaction() as cursor:
                    redeem(cursor, school.ids, code, "racer", "", school.clock.now_ms())
                results.append("won")
            except Forbidden:
                results.append("refused")
            except Unavailable:
                results.append("unavailable")

    threads = [threading.Thread(target=race) for _ in range(RACER_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * (RACERS - 1) + ["won"]
    assert school.value("SELECT count(*) FROM devices") == 1
    assert school.value("SELECT count(*) FROM device_grants") == 1


def test_a_counted_code_enrols_as_many_devices_as_it_says(school: SchoolBuilder, student: Id) -> None:
    code = school.code(Grant("student", student), uses=2)
    for _ in range(2):
        with school.database.transaction() as cursor:
            redeem(cursor, school.ids, code, "", "", school.clock.now_ms())
    with pytest.raises(Forbidden), school.database.transaction() as cursor:
        redeem(cursor, school.ids, code, "", "", school.clock.now_ms())


def test_a_redemption_that_fails_leaves_the_code_unused(school: SchoolBuilder, student: Id) -> None:
    code = school.code(Grant("student", student))
    with pytest.raises(KeyError), school.database.transaction() as cursor:
        redeem(cursor, school.ids, code, "", "", school.clock.now_ms())
        raise KeyError
    with school.database.transaction() as cursor:
        redeem(cursor, school.ids, code, "", "", school.clock.now_ms())


def test_a_code_that_grants_nothing_is_refused(school: SchoolBuilder) -> None:
    with pytest.raises(InvalidInput) as refused:
        school.code(uses=0, expires_h=-1)
    assert len(refused.value.problems) == 3


def test_a_class_reaches_its_students_and_no_others(school: SchoolBuilder, tmp_path: Any) -> None:
    (tmp_path / "roster.csv").write_text(
        "username,display_name,role,class\nada,Ada,student,8b\nbob,Bob,student,8b\ncyd,Cyd,student,8c\nkim,Kim,teacher,8b\n"
    )
    school.import_roster(tmp_path / "roster.csv")
    class_id = school.class_id("8b")
    ids = {name: school.value("SELECT id FROM users WHERE username = %s", name) for name in ("ada", "bob")}
    device = school.enrol(Grant("class", class_id))
    assert _scopes(school, device.token) == {"school", f"class:{class_id}", f"student:{ids['ada']}", f"student:{ids['bob']}"}


def test_who_leaves_a_class_leaves_its_devices_and_a_tombstone_and_history_stay(school: SchoolBuilder, tmp_path: Any) -> None:
    (tmp_path / "roster.csv").write_text("username,display_name,role,class\nada,Ada,student,8b\n")
    school.import_roster(tmp_path / "roster.csv")
    class_id, ada = school.class_id("8b"), school.value("SELECT id FROM users")
    device = school.enrol(Grant("class", class_id))
    head, now_ms = school.head, school.clock.now_ms()
    with school.database.transaction() as cursor:
        members = list(read_rows(cursor, MEMBERS, school.id).values())
        publication = Publication(school.id)
        end_memberships(cursor, publication, school.id, members, now_ms)
        assert list(publication.write(cursor, now_ms)) == [head + 1]
    assert _scopes(school, device.token) == {"school", f"class:{class_id}"}
    with school.database.transaction() as cursor:
        cursor.execute("SELECT scope, table_name, row_id, feed_no FROM tombstones")
        assert cursor.fetchall() == [(f"class:{class_id}", "class_members", members[0]["id"], head + 1)]
        cursor.execute("SELECT class_id, user_id, ended_at_ms FROM membership_history")
        assert cursor.fetchall() == [(class_id, ada, now_ms)]
    assert school.value("SELECT count(*) FROM class_members") == 0


def test_a_revoked_device_is_told_so_and_keeps_nothing(school: SchoolBuilder, student: Id) -> None:
    device = school.enrol(Grant("student", student))
    for _ in range(2):
        with school.database.transaction() as cursor:
            enrolled.revoke(cursor, school.ids, school.id, device.id, school.clock.now_ms())
    with pytest.raises(Forbidden) as refused:
        _scopes(school, device.token)
    assert refused.value.code == "device_revoked"
    assert school.value("SELECT count(*) FROM device_grants WHERE ended_at_ms IS NULL") == 0
    assert school.value("SELECT count(*) FROM audit_log WHERE action = 'device.revoked'") == 1
    another = SchoolBuilder.build(school.database)
    with pytest.raises(NotFound), school.database.transaction() as cursor:
        enrolled.revoke(cursor, school.ids, another.id, device.id, school.clock.now_ms())


def test_the_list_of_devices_shows_what_each_may_hold(school: SchoolBuilder, student: Id) -> None:
    device = school.enrol(Grant("student", student), name="Desk 7")
    with school.database.transaction() as cursor:
        (found,) = enrolled.list_devices(cursor, school.id)
    assert (found.id, found.name, found.grants, found.revoked_at_ms) == (device.id, "Desk 7", [f"student:{student}"], None)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer é", "Bearer " + "x" * 1000])
def test_a_header_without_a_token_is_not_signed_in(header: str | None) -> None:
    with pytest.raises(NotSignedIn):
        bearer(header)


def test_a_token_that_nobody_holds_is_not_signed_in(database: CloudDatabase) -> None:
    with pytest.raises(NotSignedIn), database.transaction() as cursor:
        device_for(cursor, bearer("bearer nobody"), lock=False)


def test_finding_a_device_and_its_scopes_takes_one_statement_each(school: SchoolBuilder, student: Id) -> None:
    device = school.enrol(Grant("student", student))
    with school.database.transaction() as cursor:
        counted: Any = _Counting(cursor)
        scopes_of(counted, device_for(counted, device.token, lock=True))
        assert counted.statements == 2


class _Counting:
    """A cursor that counts what it is asked to do."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.statements = 0

    def execute(self, *arguments: Any) -> None:
        self.statements += 1
        self._cursor.execute(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def open_codes(school: SchoolBuilder) -> list[OpenCode]:
    with school.database.transaction(snapshot=True) as cursor:
        return enrolment.open_codes(cursor, school.id, school.clock.now_ms(), 10)


@pytest.mark.parametrize("given", ["the code", "the code with a key", "its id", "its id with dashes"])
def test_a_code_that_was_ended_enrols_nobody_and_is_listed_no_more(
    cloud_app: FlaskClient, school: SchoolBuilder, student: Id, given: str
) -> None:
    code, other = school.code(Grant("student", student), uses=30), school.code(Grant("student", student))
    ((id_, hint),) = [(c.id, c.hint) for c in open_codes(school) if c.uses_left == 30]
    assert code.startswith(hint) and len(hint) == 2
    which = {"the code": code.lower(), "the code with a key": f"{code}#abcd", "its id": id_, "its id with dashes": dashed(id_)}[given]
    with school.database.transaction() as cursor:
        enrolment.end_code(cursor, school.ids, school.id, which, school.clock.now_ms(), "user:x")
    assert cloud_app.post("/v1/devices/enrol", json={"code": code}).status_code == 403
    assert [c.uses_left for c in open_codes(school)] == [1]
    assert cloud_app.post("/v1/devices/enrol", json={"code": other}).status_code == 201
    with school.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT actor, subject FROM audit_log WHERE action = 'enrolment_code.ended'")
        assert cursor.fetchall() == [("user:x", id_)]
    with pytest.raises(NotFound), school.database.transaction() as cursor:
        enrolment.end_code(cursor, school.ids, school.id, which, school.clock.now_ms())


def test_nobody_ends_a_code_of_another_school(school: SchoolBuilder, student: Id) -> None:
    code, another = school.code(Grant("student", student)), SchoolBuilder.build(school.database)
    for which in (code, open_codes(school)[0].id):
        with pytest.raises(NotFound), school.database.transaction() as cursor:
            enrolment.end_code(cursor, another.ids, another.id, which, another.clock.now_ms())
    assert len(open_codes(school)) == 1


def test_commands_list_codes_and_end_them(cloud_database: str, school: SchoolBuilder, student: Id, tmp_path: Any) -> None:
    environ = {"DATABASE_URL": school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, ["enrol-code", *words, "--school", school.id], env=environ)
        assert result.exit_code == 0, result.output
        return result.stdout

    code = run("create", "--student", "ada", "--uses", "3").strip()
    (line,) = run("list").splitlines()
    assert f"{code[:2]}…" in line and "1 student" in line and "3 uses left" in line and "made by operator" in line
    assert code not in line and code.replace("-", "") not in line
    assert run("end", code) == "ended\n"
    assert run("list") == "no code can be used\n"
    again = CliRunner().invoke(main, ["enrol-code", "end", "--school", school.id, code], env=environ)
    assert again.exit_code != 0
    assert "There is no such code" in again.output


def test_a_student_whose_grant_was_ended_and_who_is_there_by_a_class_stays_which_is_said(school: SchoolBuilder, tmp_path: Any) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("username,display_name,role,class\nben,Ben,student,7b\n")
    school.import_roster(roster)
    ben, class_ = school.value("SELECT id FROM users WHERE username = 'ben'"), school.class_id("7b")
    device = school.enrol(Grant("student", ben), Grant("class", class_))
    environ = {"DATABASE_URL": school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}

    def run(*words: str) -> str:
        return CliRunner().invoke(main, ["device", "end-grant", "--school", school.id, device.id, *words], env=environ).output

    assert run("--student", "Ben") == "ended; the device goes on holding Ben by the class 7b\n"
    assert _scopes(school, device.token) == {"school", f"student:{ben}", f"class:{class_}"}
    assert "no grant of its own for that student" in run("--student", "ben")
    assert run("--class", "7b") == "ended\n"
    assert _scopes(school, device.token) == {"school"}
    assert "Say either --student or --class." in run()
    assert school.value("SELECT array_agg(detail->>'grant' ORDER BY id) FROM audit_log WHERE action = 'device.grant_ended'") == [
        f"student:{ben}",
        f"class:{class_}",
    ]
