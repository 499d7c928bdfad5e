"""Backups and restores of a school's database, while devices go on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner

from cloud_api.backups import restoring
from cloud_api.backups.making import back_up
from cloud_api.backups.restoring import restore
from cloud_api.cli import main
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.doctor.postgres import erasing, leftovers
from cloud_api.embedded import DatabaseServer
from cloud_api.embedded.cluster import OWNER
from daemon.queue import outbox
from domain.clock import SystemClock
from domain.errors import AlreadyRunning, OperatorError
from domain.findings import Severity
from domain.ids import Id
from migrations.dump import Client
from migrations.engines import with_database
from migrations.execution import Applied
from migrations.history import HISTORY_TABLE
from migrations.runner import upgrade_cloud
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

WEEK_MS = 7 * 24 * 3600 * 1000


@pytest.fixture
def url(fleet: Fleet, postgres: DatabaseServer) -> Iterator[str]:
    """The address of the school's database; what a restore has set aside is dropped afterwards."""
    address = fleet.school.database.url
    yield address
    name = address.rpartition("/")[2]
    with closing(psycopg2.connect(postgres.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (f"{name}_replaced_%",))
        replaced = [row[0] for row in cursor.fetchall()]
    for database in replaced:
        postgres.drop_database(database)


def databases(postgres: DatabaseServer) -> set[str]:
    with closing(psycopg2.connect(postgres.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {row[0] for row in cursor.fetchall()}


def test_NO_LOST_OP_a_day_old_backup_is_restored_and_every_answer_is_present_with_nobody_acting(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path
) -> None:
    clock, ids = fleet.school.clock, fleet.school.ids
    laptop.records.record_attempts(ada, fleet.attempts(10))
    laptop.sync()
    made = back_up(url, tmp_path, clock)
    for device in (laptop, tablet):
        device.records.record_attempts(ada, fleet.attempts(10))
        device.records.update_profile(ada, {"grade": device.id[-6:]})
        device.sync()
    late = fleet.device(Grant("student", ada))
    laptop.records.record_attempts(ada, fleet.attempts(1))
    epoch = fleet.epoch()

    done = restore(url, made.path, clock, ids)

    with closing(CloudDatabase(url, 1, 1)) as database:
        assert any(f"{done.replaced} is a copy" in one.message for one in leftovers(database))
    assert (done.server_epoch, fleet.epoch()) == (fleet.epoch(), done.server_epoch)
    assert done.server_epoch != epoch
    assert len(fleet.server_rows("question_attempts")) == 10
    for device in (laptop, tablet) * 3:
        assert device.sync().outcome == "done"
    assert len(fleet.server_rows("question_attempts")) == 31
    for device in (laptop, tablet):
        assert device.rounds.status().state == "synced"
        assert device.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
        assert device.rows("SELECT grade FROM student_profiles") == fleet.server("SELECT grade FROM student_profiles")
    assert late.sync().outcome == "unauthorised", "it was enrolled after the backup, and says so"


def test_devices_hear_what_a_backup_holds_and_let_go_of_it_after_a_week(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Path
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    back_up(url, tmp_path / "one", fleet.school.clock)
    laptop.records.record_attempts(ada, fleet.attempts(3))
    assert laptop.value("SELECT durable_op_no FROM sync_progress") == 0
    laptop.sync()
    assert laptop.value("SELECT durable_op_no FROM sync_progress") == 5
    back_up(url, tmp_path / "two", fleet.school.clock)
    laptop.sync()
    assert laptop.value("SELECT durable_op_no FROM sync_progress") == 8, "an idle device hears it too"
    now_ms = fleet.school.clock.now_ms()
    assert laptop.database.write(lambda conn: outbox.prune(conn, outbox.durable_op_no(conn), now_ms)) == 0
    assert laptop.database.write(lambda conn: outbox.prune(conn, outbox.durable_op_no(conn), now_ms + WEEK_MS)) == 8
    assert laptop.value("SELECT count(*) FROM question_attempts") == 8
    laptop.gateway.requests.clear()
    laptop.sync()
    assert laptop.gateway.requests == []


def test_what_was_in_a_backup_of_another_life_of_the_server_counts_no_more(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tmp_path: Path
) -> None:
    early = back_up(url, tmp_path / "early", fleet.school.clock)
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    back_up(url, tmp_path / "late", fleet.school.clock)
    laptop.sync()
    assert laptop.value("SELECT durable_op_no FROM sync_progress") == 5
    restore(url, early.path, fleet.school.clock, fleet.school.ids)
    laptop.sync()
    laptop.sync()
    assert laptop.value("SELECT durable_op_no FROM sync_progress") == 0
    assert len(fleet.server_rows("question_attempts")) == 5


def test_operations_that_arrive_during_the_dump_are_not_called_durable(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    write = Client.write_archive

    def meanwhile(*args: object, **options: object) -> None:
        laptop.records.record_attempts(ada, fleet.attempts(4))
        laptop.sync()
        write(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Client, "write_archive", meanwhile)
    made = back_up(url, tmp_path, fleet.school.clock)
    assert fleet.server("SELECT last_seq, durable_seq FROM device_incarnations WHERE device_id = %s", laptop.id) == [(6, 2)]
    restore(url, made.path, fleet.school.clock, fleet.school.ids)
    assert len(fleet.server_rows("question_attempts")) == 2


def test_a_backup_that_fails_leaves_no_file_and_tells_no_device_anything(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    write = Client.write_archive

    def cut_short(client: Client, target: Path, **options: object) -> None:
        write(client, target, **options)  # type: ignore[arg-type]
        target.write_bytes(target.read_bytes()[:200])

    monkeypatch.setattr(Client, "write_archive", cut_short)
    with pytest.raises(OperatorError):
        back_up(url, tmp_path, fleet.school.clock)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert fleet.server("SELECT max(durable_seq) FROM device_incarnations") == [(0,)]


def test_a_backup_is_restored_elsewhere_and_counted_when_asked(
    fleet: Fleet, url: str, postgres: DatabaseServer, ada: Id, laptop: SyncedDevice, tmp_path: Path
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    before = databases(postgres)
    made = back_up(url, tmp_path, fleet.school.clock, verify=True)
    assert made.rows is not None
    assert (made.rows["question_attempts"], made.rows["schools"], made.schools) == (3, 1, 1)
    assert databases(postgres) == before
    assert made.path.stat().st_mode & 0o077 == 0


def test_in_a_folder_the_newest_stay_and_other_files_are_left_alone(fleet: Fleet, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "notes.txt").touch()
    (folder / "other.0001_initial.20200101T000000000Z.backup.dump").touch()
    made = [back_up(url, folder, fleet.school.clock, keep=2) for _ in range(3)]
    assert made[-1].removed == [made[0].path]
    assert {path.name for path in folder.iterdir()} == {
        "notes.txt", "other.0001_initial.20200101T000000000Z.backup.dump", made[1].path.name, made[2].path.name,
    }  # fmt: skip


def test_in_a_folder_none_stays_that_is_too_old(fleet: Fleet, url: str, tmp_path: Path) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    now = datetime.fromtimestamp(fleet.school.clock.now_ms() / 1000, UTC)
    database, at, *_ = made.path.name.split(".")
    older, old = (tmp_path / f"{database}.{at}.{now - timedelta(days=days):%Y%m%dT%H%M%S}000Z.backup.dump" for days in (31, 29))
    for file in (older, old):
        file.touch()
    assert back_up(url, tmp_path, fleet.school.clock, keep=9, keep_days=30).removed == [older]
    assert old.exists()


def test_a_clock_far_ahead_or_one_that_nothing_is_known_about_removes_no_backup_for_its_age(fleet: Fleet, url: str, tmp_path: Path) -> None:
    name = back_up(url, tmp_path, fleet.school.clock).path.name.split(".")
    old = tmp_path / f"{name[0]}.{name[1]}.20200101T000000000Z.backup.dump"
    year_ago_ms = SystemClock().now_ms() - 365 * 24 * 3_600_000
    for statement, stays in (
        ("DELETE FROM feed_days", False),
        (f"INSERT INTO feed_days SELECT id, 1, {year_ago_ms}, 0 FROM schools", True),
        (f"DELETE FROM {HISTORY_TABLE}", True),
    ):
        fleet.server(statement)
        old.touch()
        done = CliRunner().invoke(main, ["backup", "--database-url", url, str(tmp_path), "--keep-days", "30"], catch_exceptions=False)
        assert (done.exit_code, "none was removed for its age" in done.output, old.exists()) == (0, stays, stays), done.output


def test_the_first_of_several_backups_makes_their_folder_and_one_alone_is_a_file(url: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    folder, file = tmp_path / "new" / "backups", tmp_path / "school.dump"
    for number in (1, 2):
        done = run(main, ["backup", "--database-url", url, str(folder), "--keep", "14"])
        assert (done.exit_code, len(list(folder.iterdir()))) == (0, number), done.output
    assert folder.stat().st_mode & 0o077 == 0
    assert run(main, ["backup", "--database-url", url, str(file)]).exit_code == 0
    refused = run(main, ["backup", "--database-url", url, str(file), "--keep", "3"])
    assert (refused.exit_code != 0, "cannot be a folder of backups" in refused.output) == (True, True)


def test_a_backup_can_be_made_before_an_upgrade_when_the_schema_is_not_yet_that_of_the_program(
    fleet: Fleet, url: str, tmp_path: Path
) -> None:
    fleet.server(f"DELETE FROM {HISTORY_TABLE}")
    done = CliRunner().invoke(main, ["backup", "--database-url", url, str(tmp_path / "school.dump")])
    assert (done.exit_code, (tmp_path / "school.dump").exists()) == (0, True), done.output


def test_a_file_that_exists_is_replaced_only_by_force(fleet: Fleet, url: str, tmp_path: Path) -> None:
    target = tmp_path / "school.dump"
    back_up(url, target, fleet.school.clock)
    with pytest.raises(OperatorError, match="exists already"):
        back_up(url, target, fleet.school.clock)
    assert back_up(url, target, fleet.school.clock, replace=True).path == target


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_backup_is_refused_and_nothing_changes(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path, content: bytes | None
) -> None:
    epoch, before = fleet.epoch(), databases(postgres)
    archive = tmp_path / "file.dump"
    if content is not None:
        archive.write_bytes(content)
    with pytest.raises(OperatorError):
        restore(url, archive, fleet.school.clock, fleet.school.ids)
    assert (fleet.epoch(), databases(postgres)) == (epoch, before)


def test_a_restore_that_breaks_off_leaves_the_school_as_it_was(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    epoch, before = fleet.epoch(), databases(postgres)
    made.path.write_bytes(made.path.read_bytes()[:-300])
    with pytest.raises(OperatorError, match="Nothing was restored"):
        restore(url, made.path, fleet.school.clock, fleet.school.ids)
    assert (fleet.epoch(), databases(postgres)) == (epoch, before)


def test_whoever_does_not_own_the_database_restores_nothing_which_its_server_could_not_read(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path
) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    epoch, before = fleet.epoch(), databases(postgres)
    superusers = postgres.superuser_url_for(url.rpartition("/")[2])
    with pytest.raises(OperatorError, match=f"restore it as {OWNER}"):
        restore(superusers, made.path, fleet.school.clock, fleet.school.ids)
    assert (fleet.epoch(), databases(postgres)) == (epoch, before)


def test_two_restores_at_once_do_not_get_into_each_others_way(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, clock, ids = back_up(url, tmp_path, fleet.school.clock), fleet.school.clock, fleet.school.ids
    refused = list[str]()

    def and_another(restored: str, *_: object, **__: object) -> list[Applied]:
        with pytest.raises(AlreadyRunning) as error:
            restore(url, made.path, clock, ids)
        refused.append(error.value.message)
        return upgrade_cloud(restored)

    monkeypatch.setattr(restoring, "upgrade_cloud", and_another)
    before = databases(postgres)
    done = restore(url, made.path, clock, ids)
    assert len(refused) == 1
    assert databases(postgres) == {*before, done.replaced}


def test_a_database_that_is_gone_is_restored_under_its_name(fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    postgres.drop_database(url.rpartition("/")[2])
    done = restore(url, made.path, fleet.school.clock, fleet.school.ids)
    assert done.replaced is None
    assert fleet.epoch() == done.server_epoch


def test_a_database_whose_name_stands_in_the_query_of_its_address_is_the_one_that_is_replaced(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path
) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    base, _, name = url.rpartition("/")
    done = restore(f"{base}/another?dbname={name}", made.path, fleet.school.clock, fleet.school.ids)
    assert (done.database, done.server_epoch) == (name, fleet.epoch())
    assert "another" not in databases(postgres)


def test_an_address_that_leads_to_one_database_whatever_its_name_is_refused_and_nothing_changes(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a pooler may; the database that is served would be taken for the one that is made."""
    made = back_up(url, tmp_path, fleet.school.clock)
    epoch, before = fleet.epoch(), databases(postgres)
    monkeypatch.setattr(restoring, "with_database", lambda address, name: with_database(address, name) if name == "postgres" else url)
    with pytest.raises(OperatorError, match="leads to one database"):
        restore(url, made.path, fleet.school.clock, fleet.school.ids)
    assert (fleet.epoch(), databases(postgres)) == (epoch, before)


def test_a_server_under_load_is_swapped_under_its_feet_and_answers_again(
    fleet: Fleet, url: str, ada: Id, laptop: SyncedDevice, tmp_path: Path
) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            laptop.sync()

    threads = [threading.Thread(target=poll)]
    for thread in threads:
        thread.start()
    try:
        done = restore(url, made.path, fleet.school.clock, fleet.school.ids)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    laptop.records.record_attempts(ada, fleet.attempts(1))
    deadline_s = time.monotonic() + 30
    while laptop.sync().outcome != "done":
        assert time.monotonic() < deadline_s
    assert fleet.epoch() == done.server_epoch
    assert len(fleet.server_rows("question_attempts")) == 1


def test_the_commands_say_what_they_did(fleet: Fleet, url: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    made = json.loads(run(main, ["backup", str(tmp_path), "--database-url", url, "--verify", "--json"], catch_exceptions=False).stdout)
    assert made["rows"]["schools"] == 1
    said = run(main, ["restore", made["path"], "--database-url", url], catch_exceptions=False)
    assert said.exit_code == 0
    assert "devices send what is missing" in said.stdout
    assert "_replaced_" in said.stdout


def test_where_a_right_cannot_be_carried_over_the_restore_and_the_doctor_say_what_to_run(
    fleet: Fleet, url: str, postgres: DatabaseServer, tmp_path: Path
) -> None:
    made = back_up(url, tmp_path, fleet.school.clock)
    restored = restore(url, made.path, fleet.school.clock, fleet.school.ids)
    assert restored.rights_to_give == (f'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "{OWNER}";',)
    (found,) = erasing(fleet.school.database)
    assert found.severity is Severity.WARNING
    assert restored.rights_to_give[0] in found.remedy
    assert restored.database in found.remedy
    with closing(psycopg2.connect(postgres.superuser_url_for(restored.database))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(restored.rights_to_give[0])
    (found,) = erasing(fleet.school.database)
    assert found.severity is Severity.OK
    again = restore(url, made.path, fleet.school.clock, fleet.school.ids, superuser_url=postgres.superuser_url_for(restored.database))
    assert again.rights_to_give == ()
    (found,) = erasing(fleet.school.database)
    assert found.severity is Severity.OK
