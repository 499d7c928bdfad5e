"""What was withdrawn after a backup was made stays withdrawn when it is restored."""

from __future__ import annotations

import json
import os
import threading
import time
from copy import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from cloud_api.access.accounts import set_password
from cloud_api.app import create_app, keep_withdrawals
from cloud_api.backups import restoring, withdrawals
from cloud_api.backups.making import back_up
from cloud_api.backups.restoring import restore
from cloud_api.backups.withdrawals import Entry, Withdrawn
from cloud_api.cli import main
from cloud_api.config import CloudConfig
from cloud_api.devices.auth import Revocation
from cloud_api.devices.enrolled import revoke
from cloud_api.devices.enrolment import Grant, end_code, open_codes
from daemon.identity.device import REVOKED_FILE
from domain.errors import NotFound, OperatorError, Unavailable
from domain.ids import Id
from tests.security.cloud.staff import PASSWORD, Staffroom
from tests.support.fleet import Fleet, SyncedDevice

OTHER = "another good passphrase"


@pytest.fixture
def room(fleet: Fleet) -> Staffroom:
    """People with passwords."""
    room = Staffroom(create_app(CloudConfig(), fleet.school.database), fleet.school)
    for username, role in (("grace", "teacher"), ("root", "admin"), ("cleo", "teacher")):
        room.add(username, role)
    return room


def end_access(fleet: Fleet, device: SyncedDevice, order: Revocation = Revocation.LOCK) -> None:
    school = fleet.school
    school.database.retrying(lambda cursor: revoke(cursor, school.ids, school.id, device.id, school.clock.now_ms(), order=order))


def run(fleet: Fleet, folder: Path, *arguments: str, typed: str = "") -> str:
    environ = {"DATABASE_URL": fleet.school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(folder / "erasures.jsonl")}
    result = CliRunner().invoke(main, list(arguments), env=environ, input=typed, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def of_kind(path: Path, kind: str) -> list[Entry]:
    return [entry for entry in withdrawals.read(path) if entry.kind == kind]


def test_a_revoked_device_stays_out_and_the_password_of_before_opens_nothing_after_the_server_was_restored(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path
) -> None:
    school = fleet.school
    made = back_up(school.database.url, tmp_path, school.clock)
    run(fleet, tmp_path, "device", "revoke", "--school", school.id, laptop.id, "--wipe")
    run(fleet, tmp_path, "user", "set-password", "--school", school.id, "--username", "grace", typed=OTHER + "\n")
    # The disk with the database is gone; the register, and the backup, lay elsewhere.
    fleet.server("UPDATE devices SET revoked_at_ms = NULL")
    fleet.server("DELETE FROM user_sessions")
    fleet.server("ALTER TABLE audit_log DISABLE TRIGGER audit_log_is_kept")
    fleet.server("DELETE FROM audit_log")
    told = run(fleet, tmp_path, "restore", str(made.path))
    assert "Revoked again, as they were since the backup: 1 device." in told
    assert "grace" in told
    assert PASSWORD not in told
    assert [room.post("grace", password).status_code for password in (PASSWORD, OTHER)] == [403, 403]
    assert room.post("root").status_code == 201
    assert laptop.sync().outcome != "done"
    assert (laptop.identity.state_dir / REVOKED_FILE).exists(), "it has heard of it"
    assert tablet.sync().outcome == "done"
    run(fleet, tmp_path, "user", "set-password", "--school", school.id, "--username", "grace", typed=OTHER + "\n")
    assert room.post("grace", OTHER).status_code == 201
    again = back_up(school.database.url, tmp_path, school.clock)
    assert json.loads(run(fleet, tmp_path, "restore", str(again.path), "--json"))["withdrawn"] == {"devices": 0, "usernames": []}
    assert room.post("grace", OTHER).status_code == 201, "a backup of later knows it all"


def test_what_the_replaced_database_knows_is_enough_also_of_what_is_withdrawn_meanwhile(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    school, swap = fleet.school, restoring._swap
    made = back_up(school.database.url, tmp_path, school.clock)
    end_access(fleet, laptop)

    def just_before(*arguments: Any) -> Any:
        end_access(fleet, tablet)
        set_password(school.database, school.clock, school.ids, school.id, "grace", OTHER)
        return swap(*arguments)

    monkeypatch.setattr(restoring, "_swap", just_before)
    assert restore(school.database.url, made.path, school.clock, school.ids).withdrawn == Withdrawn(2, ("grace",))
    assert fleet.server("SELECT count(*) FROM devices WHERE revoked_at_ms IS NULL") == [(0,)]
    assert fleet.server("SELECT count(*) FROM device_grants WHERE ended_at_ms IS NULL") == [(0,)]


def test_somebody_who_left_after_the_backup_cannot_sign_in_and_somebody_who_came_back_before_it_can(
    fleet: Fleet, room: Staffroom, tmp_path: Path
) -> None:
    school = fleet.school
    path = tmp_path / withdrawals.FILE_NAME
    retire = "UPDATE users SET retired_at_ms = %s WHERE username = %s"
    fleet.server(retire, school.clock.now_ms(), "root")
    withdrawals.keep(path, school.database)
    fleet.server(retire, None, "root")
    set_password(school.database, school.clock, school.ids, school.id, "cleo", OTHER)  # so that it is later now
    made = back_up(school.database.url, tmp_path, school.clock)
    fleet.server(retire, school.clock.now_ms(), "grace")
    withdrawals.keep(path, school.database)
    fleet.server(retire, None, "grace")
    assert restore(school.database.url, made.path, school.clock, school.ids).withdrawn.usernames == ("grace",)
    assert [room.post(name).status_code for name in ("grace", "root")] == [403, 201]


def test_somebody_who_left_while_it_was_restored_cannot_sign_in_whatever_the_new_database_has_seen_since(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    school, swap = fleet.school, restoring._swap
    made = back_up(school.database.url, tmp_path, school.clock)

    def around(*arguments: Any) -> Any:
        fleet.server("UPDATE users SET retired_at_ms = %s WHERE username = 'grace'", school.clock.now_ms())
        replaced = swap(*arguments)
        fleet.server("UPDATE devices SET last_seen_ms = %s", school.clock.now_ms() + 5)
        return replaced

    monkeypatch.setattr(restoring, "_swap", around)
    assert restore(school.database.url, made.path, school.clock, school.ids).withdrawn == Withdrawn(0, ("grace",))
    assert room.post("grace").status_code == 403


def test_a_password_replaced_since_a_backup_in_which_nothing_is_written_down_opens_nothing(
    fleet: Fleet, room: Staffroom, tmp_path: Path
) -> None:
    school = fleet.school
    fleet.server("ALTER TABLE audit_log DISABLE TRIGGER audit_log_is_kept")
    fleet.server("DELETE FROM audit_log")
    fleet.server("ALTER TABLE audit_log ENABLE TRIGGER audit_log_is_kept")
    made = back_up(school.database.url, tmp_path, school.clock)
    set_password(school.database, school.clock, school.ids, school.id, "grace", OTHER)
    assert restore(school.database.url, made.path, school.clock, school.ids).withdrawn == Withdrawn(0, ("grace",))
    assert room.post("grace").status_code == 403


def test_passwords_that_are_older_than_the_audit_log_are_not_taken_for_replaced(fleet: Fleet, room: Staffroom, tmp_path: Path) -> None:
    school = fleet.school
    withdrawals.keep(tmp_path / withdrawals.FILE_NAME, school.database)
    fleet.server("ALTER TABLE audit_log DISABLE TRIGGER audit_log_is_kept")
    fleet.server("DELETE FROM audit_log")
    fleet.server("ALTER TABLE audit_log ENABLE TRIGGER audit_log_is_kept")
    set_password(school.database, school.clock, school.ids, school.id, "cleo", OTHER)
    made = back_up(school.database.url, tmp_path, school.clock)
    assert restore(school.database.url, made.path, school.clock, school.ids).withdrawn == Withdrawn()
    assert room.post("grace").status_code == 201


def test_the_register_holds_the_latest_of_each_and_nothing_that_names_or_opens(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tmp_path: Path
) -> None:
    path = tmp_path / "kept" / withdrawals.FILE_NAME
    for order in (Revocation.LOCK, Revocation.WIPE):
        end_access(fleet, laptop, order)
        set_password(fleet.school.database, fleet.school.clock, fleet.school.ids, fleet.school.id, "grace", OTHER)
        withdrawals.keep(path, fleet.school.database)
    ((device,), passwords) = of_kind(path, "device"), of_kind(path, "password")
    assert (device.subject_id, device.order) == (laptop.id, "wipe")
    assert len(passwords) == 3
    weaker = msgspec.structs.replace(device, at_ms=device.at_ms + 1, order="lock")
    assert [entry.order for entry in withdrawals.latest([device, weaker])] == ["wipe"]
    text = path.read_text()
    for secret in ("grace", OTHER, "argon2"):
        assert secret not in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.stat().st_mtime_ns
    withdrawals.keep(path, fleet.school.database)
    assert path.stat().st_mtime_ns == before, "nothing is written where there is nothing new"
    path.write_text(text + "{\n")
    with pytest.raises(OperatorError, match="damaged"):
        withdrawals.keep(path, fleet.school.database)


def test_those_who_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / withdrawals.FILE_NAME
    school = "1" * 32
    writers = [
        threading.Thread(target=withdrawals.complete, args=(path, [Entry(school, f"{n:032x}", "password", 1_700_000_000_000 + n)]))
        for n in range(16)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(withdrawals.read(path)) == 16
    assert sorted(os.listdir(tmp_path)) == [withdrawals.FILE_NAME, withdrawals.FILE_NAME + ".lock"]


def test_those_who_come_while_the_register_is_being_written_are_served_together_by_the_next_writing(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, begun, go_on = list[Path](), threading.Event(), threading.Event()

    def slow(path: Path, _: object) -> None:
        runs.append(path)
        begun.set()
        go_on.wait(10)

    monkeypatch.setattr(withdrawals, "keep", slow)
    keeper = withdrawals.Keeper(tmp_path / withdrawals.FILE_NAME, fleet.school.database)
    threads = [threading.Thread(target=keeper.keep_or_tell) for _ in range(7)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    ends_at = time.monotonic() + 10
    while next(copy(keeper._numbers)) < 9 and time.monotonic() < ends_at:  # seven calls and a run have begun
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(runs) == 2, "not the first, which may have begun too early for them"
    keeper.keep_or_tell()
    assert len(runs) == 3


def test_pages_that_withdraw_something_have_it_in_the_register_before_they_say_so(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "folder" / withdrawals.FILE_NAME
    keep_withdrawals(room.app, fleet.school.database, path)
    client, headers = room.browser("root")
    page, [(grant,)] = f"/pages/fleet/devices/{laptop.id}", fleet.server("SELECT id FROM device_grants WHERE device_id = %s", laptop.id)
    assert f"{page}/grants/{grant}/end" in client.get(page, headers=headers).get_data(as_text=True)
    assert [client.post(f"{page}/grants/{grant}/end", headers=headers).status_code for _ in range(2)] == [303, 303]
    assert [entry.subject_id for entry in of_kind(path, "grant")] == [grant]
    assert "Nothing but the course." in client.get(page, headers=headers).get_data(as_text=True)
    form = {"order": "lock", "confirmed": "yes"}
    assert client.post(f"/pages/fleet/devices/{laptop.id}/revoke", data=form, headers=headers).status_code == 303
    assert [entry.subject_id for entry in of_kind(path, "device")] == [laptop.id]
    before = of_kind(path, "password")
    changed = client.post("/pages/password", data={"before": PASSWORD, "after": OTHER, "again": OTHER}, headers=headers)
    assert changed.status_code == 303
    assert of_kind(path, "password") != before
    path.write_text("{")
    client, headers = room.browser("grace")
    changed = client.post("/pages/password", data={"before": PASSWORD, "after": OTHER, "again": OTHER}, headers=headers)
    assert changed.status_code == 303, "what was withdrawn is withdrawn"
    assert "register of withdrawals" in caplog.text


def test_a_code_that_was_ended_since_the_backup_is_ended_again(fleet: Fleet, room: Staffroom, tmp_path: Path) -> None:
    school = fleet.school
    code, _ = (school.code(Grant("student", school.add_user(name).id)) for name in ("mia", "noa"))
    made = back_up(school.database.url, tmp_path, school.clock)
    run(fleet, tmp_path, "enrol-code", "end", "--school", school.id, code)
    assert [entry.uses_left for entry in of_kind(tmp_path / "withdrawals.jsonl", "code")].count(0) == 1
    restore(school.database.url, made.path, school.clock, school.ids)
    with school.database.transaction(snapshot=True) as cursor:
        assert len(open_codes(cursor, school.id, school.clock.now_ms(), 10)) == 1
    with pytest.raises(NotFound), school.database.transaction() as cursor:
        end_code(cursor, school.ids, school.id, code, school.clock.now_ms())


def test_a_code_that_was_used_since_the_backup_has_none_of_these_uses_back(fleet: Fleet, room: Staffroom, tmp_path: Path) -> None:
    school = fleet.school
    code = school.code(Grant("student", school.add_user("mia").id), uses=3)
    made = back_up(school.database.url, tmp_path, school.clock)
    keep_withdrawals(room.app, school.database, tmp_path / withdrawals.FILE_NAME)
    for name in ("one", "two"):
        assert (
            room.app.test_client().post("/v1/devices/enrol", json={"code": code, "device_name": name, "app_version": "1"}).status_code
            == 201
        )
    fleet.server("UPDATE enrolment_codes SET uses_left = 3")  # the disk with the database is gone
    restore(school.database.url, made.path, school.clock, school.ids)
    assert fleet.server("SELECT uses_left FROM enrolment_codes") == [(1,)]


def test_a_grant_that_was_ended_takes_the_student_off_the_device_and_is_not_given_back_by_a_backup(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, room: Staffroom, tmp_path: Path
) -> None:
    school = fleet.school
    laptop.sync()
    made = back_up(school.database.url, tmp_path, school.clock)
    laptop.records.record_attempts(ada, fleet.attempts(2))
    assert run(fleet, tmp_path, "device", "end-grant", "--school", school.id, laptop.id, "--student", "ADA") == "ended\n"
    for _ in range(2):
        laptop.sync()
    assert laptop.value("SELECT count(*) FROM question_attempts") == 0
    assert fleet.server("SELECT count(*) FROM question_attempts") == [(2,)], "what was written before is taken"
    fleet.server("UPDATE device_grants SET ended_at_ms = NULL")  # the disk with the database is gone
    restore(school.database.url, made.path, school.clock, school.ids)
    assert fleet.server("SELECT count(*) FROM device_grants WHERE device_id = %s AND ended_at_ms IS NULL", laptop.id) == [(0,)]
    assert fleet.server("SELECT device_id FROM device_grants WHERE ended_at_ms IS NULL") == [(tablet.id,)], "and nothing else"


def test_a_command_that_has_withdrawn_something_does_not_fail_for_the_register(
    fleet: Fleet, room: Staffroom, laptop: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise Unavailable("The connection to the database was lost.")

    monkeypatch.setattr(withdrawals, "entries", away)
    assert run(fleet, tmp_path, "device", "revoke", "--school", fleet.school.id, laptop.id) == "revoked\n"
    assert of_kind(tmp_path / "withdrawals.jsonl", "device") == []
