"""A student who was erased at school goes from every device, and comes back from nowhere."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cloud_api.backups import restoring
from cloud_api.backups.making import back_up
from cloud_api.backups.restoring import restore
from cloud_api.cli import main
from cloud_api.devices.enrolment import Grant
from cloud_api.erasure import export, register
from cloud_api.erasure.erase import Erased, erase
from cloud_api.erasure.holdings import counts
from cloud_api.erasure.orders import standings
from daemon.records import NewPlanItem
from domain.errors import NotFound, NotSignedIn, OperatorError, StorageFull
from domain.ids import Id
from domain.wire import Limits, PushRequest
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import at_school, device_with_keys, taken_by, written_by


@pytest.fixture
def ben(fleet: Fleet) -> Id:
    """Another student."""
    return fleet.school.add_user("ben").id


@pytest.fixture
def shared(fleet: Fleet, ada: Id, ben: Id) -> SyncedDevice:
    """A laptop that both use."""
    device = fleet.device(Grant("student", ada), Grant("student", ben))
    assert device.sync().outcome == "done"
    return device


def erase_ada(fleet: Fleet, ada: Id) -> Erased:
    return erase(fleet.school.database, fleet.school.clock, fleet.school.ids, fleet.school.id, ada)


def held(fleet: Fleet, student: str) -> dict[str, int]:
    with fleet.school.database.transaction(read_only=True) as cursor:
        return counts(cursor, fleet.school.id, student)


def mentions(device: SyncedDevice, student: str) -> dict[str, int]:
    """Rows of a device that name the student, by table."""
    tables = [name for (name,) in device.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    found = {}
    for table in tables:
        columns = [row[1] for row in device.rows(f"PRAGMA table_info({table})")]
        where = " OR ".join(f"instr({column}, ?) > 0" for column in columns)
        found[table] = device.value(f"SELECT count(*) FROM {table} WHERE {where}", *[student] * len(columns))
    return {table: count for table, count in found.items() if count}


def make_plan(device: SyncedDevice, fleet: Fleet, student: Id) -> Id:
    """A plan of one item, whose id is returned."""
    plan = {"starts_on": "2027-01-01", "days": 7, "planner_version": "test", "forecast": None}
    device.records.add_plan(student, plan, [NewPlanItem(fleet.concepts[0], "2027-01-01", "new", 20, "because")])
    return Id(device.value("SELECT id FROM study_plan_items WHERE student_id = ?", student))


def test_what_was_on_its_way_while_the_student_was_erased_is_refused(fleet: Fleet, ada: Id, shared: SyncedDevice) -> None:
    item = make_plan(shared, fleet, ada)
    shared.sync()
    erase_ada(fleet, ada)
    shared.sync()
    for late in (
        lambda: shared.records.record_attempts(ada, fleet.attempts(1)),
        lambda: shared.records.update_profile(ada, {"grade": "7"}),
        lambda: make_plan(shared, fleet, ada),
        lambda: shared.records.update_plan_item(ada, item, {"status": "done"}),
    ):
        with pytest.raises((NotSignedIn, NotFound)):
            late()
    assert mentions(shared, ada) == {}


def test_everything_of_the_student_goes_and_nothing_of_the_others(fleet: Fleet, ada: Id, ben: Id, shared: SyncedDevice) -> None:
    for student in (ada, ben):
        shared.records.record_attempts(student, fleet.attempts(5))
        shared.records.update_profile(student, {"grade": "7"})
        make_plan(shared, fleet, student)
    shared.sync()
    before = held(fleet, ben), mentions(shared, ben)
    done = erase_ada(fleet, ada)
    assert done.rows["question_attempts"] == 5
    assert held(fleet, ada) == {}
    shared.sync()
    assert mentions(shared, ada) == {}
    assert (held(fleet, ben), mentions(shared, ben)) == before
    assert shared.rounds.status().state == "synced"


def test_operations_of_others_that_were_queued_between_arrive(fleet: Fleet, ada: Id, ben: Id, shared: SyncedDevice) -> None:
    for student in (ada, ben, ada, ben):
        shared.records.record_attempts(student, fleet.attempts(3))
    erase_ada(fleet, ada)
    shared.sync()
    shared.records.record_attempts(ben, fleet.attempts(2))
    assert shared.sync().outcome == "done"
    assert shared.rounds.status().state == "synced"
    assert fleet.server("SELECT student_id, count(*) FROM question_attempts GROUP BY 1") == [(ben, 8)]
    assert mentions(shared, ada) == {}
    places = [op_no for (op_no,) in shared.rows("SELECT op_no FROM sync_operations ORDER BY op_no")]
    assert places == list(range(places[0], places[0] + len(places))), "the log has no gap"


def test_a_device_that_holds_operations_of_others_only_as_settled_can_send_them_again(
    fleet: Fleet, ada: Id, ben: Id, shared: SyncedDevice
) -> None:
    for student in (ada, ben, ada, ben):
        shared.records.record_attempts(student, fleet.attempts(3))
        shared.sync()
    erase_ada(fleet, ada)
    shared.sync()
    fleet.server("DELETE FROM question_attempts")
    shared.database.write(lambda conn: shared.identity.start_incarnation(conn, resend_all=True))
    assert shared.sync().outcome == "done"
    assert fleet.server("SELECT student_id, count(*) FROM question_attempts GROUP BY 1") == [(ben, 6)]


def test_what_an_offline_device_brings_late_is_dropped_audited_and_kept_nowhere(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    item = make_plan(laptop, fleet, ada)
    laptop.sync()
    laptop.records.record_attempts(ada, fleet.attempts(4, answer="late canary"))
    laptop.records.update_plan_item(ada, item, {"status": "done"})
    laptop.records.update_profile(ada, {"grade": "late canary"})
    erase_ada(fleet, ada)
    result = laptop.sync()
    assert (result.outcome, result.rejected) == ("done", 6)
    assert held(fleet, ada) == {}
    assert fleet.server("SELECT count(*) FROM dead_letters") == fleet.server("SELECT count(*) FROM sync_conflicts") == [(0,)]
    assert fleet.server("SELECT actor, subject, detail FROM audit_log WHERE action = 'erasure.dropped'") == [
        (f"device:{laptop.id}", ada, {"operations": 6})
    ]
    assert mentions(laptop, ada) == {}
    assert laptop.rounds.status().rejected == 0


def test_a_late_change_of_a_row_that_was_itself_late_is_dropped_too(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    erase_ada(fleet, ada)
    item = make_plan(laptop, fleet, ada)
    laptop.records.update_plan_item(ada, item, {"status": "done"})  # names the item only, and goes with the second batch
    laptop.rounds._pusher._limits = Limits(batch_ops_max=2)
    assert laptop.sync().rejected == 3
    assert [len(request.runs) for request in laptop.gateway.requests if isinstance(request, PushRequest)] == [2, 1]
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(0,)]


def test_status_tells_devices_that_have_confirmed_from_silent_ones(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    erase_ada(fleet, ada)
    late = fleet.device(Grant("student", fleet.school.add_user("cleo").id))
    late.sync()
    laptop.sync()
    with fleet.school.database.transaction(read_only=True) as cursor:
        (standing,) = standings(cursor)
    assert (standing.student_id, standing.confirmed) == (ada, 1)
    assert [device.id for device in standing.waiting] == [tablet.id], "one that was enrolled later has nothing to erase"
    confirmed = {actor for (actor,) in fleet.server("SELECT actor FROM audit_log WHERE action = 'erasure.confirmed'")}
    assert confirmed == {f"device:{laptop.id}", f"device:{late.id}"}


def test_a_device_that_cannot_erase_yet_does_not_confirm_and_sends_what_others_wrote(
    fleet: Fleet, ada: Id, ben: Id, shared: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase_ada(fleet, ada)
    with monkeypatch.context() as patched:
        patched.setattr(shared.database, "write_anew", _full)
        shared.records.record_attempts(ben, fleet.attempts(3))
        assert shared.sync().outcome == "done"
        assert fleet.server("SELECT count(*) FROM question_attempts") == [(3,)]
        assert fleet.server("SELECT count(*) FROM erasure_confirmations") == [(0,)]
    shared.sync()
    assert fleet.server("SELECT count(*) FROM erasure_confirmations") == [(1,)]


def _full() -> None:
    raise StorageFull()


def test_a_device_restored_from_an_older_copy_is_ordered_again(fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Path) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.database.close()
    shutil.copytree(laptop.folder, tmp_path / "copy")
    one = fleet.open(laptop.folder)
    erase_ada(fleet, ada)
    one.sync()
    copy = fleet.open(tmp_path / "copy")
    assert mentions(copy, ada)
    copy.sync()
    copy.sync()
    assert mentions(copy, ada) == {}
    assert held(fleet, ada) == {}


def test_a_server_restored_to_before_the_erasure_has_erased_again(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    url, clock, ids = fleet.school.database.url, fleet.school.clock, fleet.school.ids
    made = back_up(url, tmp_path, clock)
    done = erase_ada(fleet, ada)
    laptop.sync()
    restore(url, made.path, clock, ids)
    assert held(fleet, ada) == {}
    tablet.records.record_attempts(ada, fleet.attempts(4))
    for device in (laptop, tablet, laptop):
        device.sync()
    assert held(fleet, ada) == {}
    assert mentions(tablet, ada) == mentions(laptop, ada) == {}
    with fleet.school.database.transaction(read_only=True) as cursor:
        (standing,) = standings(cursor)
    assert standing.waiting == (), "devices are asked again by the server's new life, and answer"
    register.complete(tmp_path / register.FILE_NAME, [done.entry])
    fleet.server("DELETE FROM erased_rows")
    fleet.server("DELETE FROM erasures")
    restore(url, made.path, clock, ids)
    assert held(fleet, ada) == {}, "the register beside the backup is enough"


def test_a_student_who_is_erased_while_a_backup_is_restored_is_erased_there_too(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    url, clock, ids = fleet.school.database.url, fleet.school.clock, fleet.school.ids
    made, swap = back_up(url, tmp_path, clock), restoring._swap

    def erased_just_before(*arguments: Any) -> Any:
        erase_ada(fleet, ada)
        return swap(*arguments)

    monkeypatch.setattr(restoring, "_swap", erased_just_before)
    restore(url, made.path, clock, ids)
    assert held(fleet, ada) == {}


def test_an_erasure_comes_and_is_confirmed_by_stick(fleet: Fleet, ada: Id) -> None:
    device = device_with_keys(fleet, Grant("student", ada))
    device.sync()
    device.records.record_attempts(ada, fleet.attempts(3))
    erase_ada(fleet, ada)
    for _ in range(2):
        imported = at_school(fleet).take(written_by(device), with_feed=True)
        assert imported.answer is not None
        taken_by(device, imported.answer.data)
        device.rounds._eraser.carry_out()  # a round without a network begins so
    assert mentions(device, ada) == held(fleet, ada) == {}
    at_school(fleet).take(written_by(device), with_feed=True)
    assert fleet.server("SELECT device_id FROM erasure_confirmations") == [(device.id,)]


def test_the_commands_ask_count_erase_register_and_tell(fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Path) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    environ = {"DATABASE_URL": fleet.school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}

    def run(*arguments: str, typed: str = "") -> str:
        result = CliRunner().invoke(main, list(arguments), env=environ, input=typed, catch_exceptions=False)
        return f"{result.exit_code} {result.output}"

    assert "3 of question_attempts" in run("erase", "--student", ada, "--dry-run")
    named = ("--school", fleet.school.id, "--student")
    assert run("erase", *named, "ada", "--dry-run") == run("erase", "--student", ada, "--dry-run")
    assert "no user of that name" in run("erase", *named, "nobody", "--dry-run")
    assert "Give --school as well, for a user name" in run("erase", "--student", "ada", "--dry-run")
    asked = run("erase", "--student", ada, typed="n\n")
    assert (asked[:2], "Erase Ada here and on every device" in asked) == ("1 ", True)
    assert held(fleet, ada)["question_attempts"] == 3
    assert run("erase", "--student", ada, "--yes", "--later").startswith("0 ")
    assert held(fleet, ada) == {}
    assert [json.loads(line)["student_id"] for line in (tmp_path / "erasures.jsonl").read_text().splitlines()] == [ada]
    assert laptop.id in run("erase", "--status")
    assert run("erase", "--student", ada, "--yes", "--later").startswith("0 "), "again it changes nothing"
    assert run("erase", "--rewrite").startswith("0 ")
    assert run("erase", "--student", fleet.school.ids.new(), "--yes").startswith("1 ")


def test_an_export_holds_everything_about_the_student_and_no_secret(
    fleet: Fleet, ada: Id, ben: Id, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path
) -> None:
    laptop.records.record_attempts(ada, [*fleet.attempts(3, answer="=1+1"), *fleet.attempts(1, answer='Ørsted, "7"')])
    laptop.change("INSERT INTO questions SELECT ?, topic_id, concept_ids, kind, stem, choices, answers, source, external_id, retired_at_ms, feed_no, _extra"
                  " FROM questions LIMIT 1", unknown := fleet.school.ids.new())  # fmt: skip
    laptop.records.record_attempts(ada, fleet.attempts(1, question_id=unknown, answer="refused"))
    make_plan(laptop, fleet, ada)
    for device in (laptop, tablet):
        device.records.update_profile(ada, {"grade": device.id[-6:]})
    for device in (laptop, tablet):
        device.sync()
    fleet.server("UPDATE users SET password_hash = 'secret hash' WHERE id = %s", ada)
    environ = {"DATABASE_URL": fleet.school.database.url}
    arguments = ["export", "--student", ada, "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments, env=environ, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    folder = tmp_path / f"carrel-export-{ada}"
    tables = json.loads((folder / "export.json").read_text())["tables"]
    counted = {
        "question_attempts": 4,
        "dead_letters": 1,
        "sync_conflicts": 1,
        "study_plans": 1,
        "study_plan_items": 1,
        "users": 1,
        "student_profiles": 1,
    }
    assert {table: len(tables[table]) for table in counted} == counted
    assert {"concept_mastery", "audit_log", "device_grants"} < tables.keys()
    assert {path.stem for path in folder.glob("*.csv")} == tables.keys()
    with (folder / "question_attempts.csv").open(newline="") as file:
        assert sorted({row["answer"] for row in csv.DictReader(file)}) == ["'=1+1", 'Ørsted, "7"'], "a spreadsheet calculates nothing"
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"secret hash" not in written
    assert ben.encode() not in written
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    again = CliRunner().invoke(main, arguments, env=environ)
    assert (again.exit_code, "exists already" in again.output) == (1, True)


def test_a_student_who_has_become_a_teacher_can_be_exported_and_erased_and_whoever_always_was_one_cannot(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Path
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    tom = fleet.school.add_user("tom", role="teacher").id
    fleet.server("UPDATE users SET role = 'teacher' WHERE id = %s", ada)
    environ = {"DATABASE_URL": fleet.school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}
    for person, code in ((ada, 0), (tom, 1)):
        for command in (["export", "--out", str(tmp_path)], ["erase", "--yes", "--later"]):
            done = CliRunner().invoke(main, [*command, "--student", person], env=environ)
            assert (done.exit_code, "no student of that id" in done.output) == (code, person == tom), done.output
    assert "question_attempts.csv" in {path.name for path in (tmp_path / f"carrel-export-{ada}").iterdir()}
    assert (held(fleet, ada), held(fleet, tom)) == ({}, {"users": 1})
    laptop.sync()
    assert mentions(laptop, ada) == {}


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_csv", _no_space)
    with pytest.raises(OperatorError):
        export.write(tmp_path, "a" * 32, {"users": [{"id": 1}]}, 0)
    assert list(tmp_path.iterdir()) == []


def _no_space(*_: object) -> str:
    raise OSError(28, "No space left on device")
