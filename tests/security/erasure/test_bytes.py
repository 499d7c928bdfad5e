"""After an erasure no byte of the student is left: in no file of the server's data folder, nor of a device, also of one that was away meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner

from cloud_api.analytics.keep_up import keep_up_school
from cloud_api.app import create_app
from cloud_api.cli import main
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.embedded import DatabaseServer, EmbeddedPostgres
from cloud_api.people import create_user
from daemon.backups.making import back_up
from daemon.config import load_config
from daemon.database import DeviceDatabase
from daemon.erasure.eraser import Eraser
from daemon.erasure.orders import note
from daemon.identity.device import Identity
from daemon.image import strip
from daemon.records import NewAttempt, NewPlanItem
from daemon.recovery.journal import Journal
from daemon.recovery.journal_file import journal_path
from domain.errors import OperatorError, Unavailable
from domain.ids import Id, IdSource
from domain.wire import ErasureOrder
from migrations.runner import upgrade_cloud
from tests.support.cloud import SchoolBuilder, serving
from tests.support.device import ADA, attempt, open_device
from tests.support.fleet import Fleet, SyncedDevice, running_fleet
from tests.support.postgres import temporary_data_dir

# In every field that takes a text; in none of them does it stand for anything else.
CANARY = "kanarienvogel"

# Whatever may lie beside a device's database by the time that an order comes; some of it left by processes that were killed.
LEFT_BESIDE = (
    "{database}.damaged-20260101T000000Z-abcdef",
    "{database}.damaged-20260101T000000Z-abcdef-wal",
    "{database}.replaced-20260101T000000Z-abcdef",
    "{database}.restoring/{database}",
    "{database}.0001_initial.20260101T000000000Z.backup",
    "{database}.0001_initial.20260101T000000000Z.backup.partial",
    "backups/{database}.0001_initial.20260101T000000000Z.backup",
    "backups/{database}.0001_initial.20260101T000000000Z.backup.partial",
    "backups/{database}.0001_initial.20260101T000000000Z.backup.partial-journal",
    "verify-report.json",
    "verify-report.json.partial",
    "bundle.outgoing",
    "bundle.incoming.partial",
)


class Site:
    """A school on a PostgreSQL of its own, and everything that lies on its disks."""

    def __init__(self, data_dir: Path, fleet: Fleet, url: str) -> None:
        self.data_dir, self.fleet, self.url = data_dir, fleet, url

    def at_school(self) -> set[str]:
        return found_in(self.data_dir)


def found_in(folder: Path) -> set[str]:
    """The files that hold the canary."""
    needle = CANARY.encode()
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and needle in p.read_bytes()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        temporary_data_dir() as data_dir,
        EmbeddedPostgres.start(data_dir, durable=False) as server,
        _school(server) as (url, school, address),
        running_fleet(school, address, tmp_path) as fleet,
    ):
        yield Site(data_dir, fleet, url)


@contextmanager
def _school(server: DatabaseServer) -> Iterator[tuple[str, SchoolBuilder, str]]:
    url = server.create_database("carrel")
    upgrade_cloud(url)
    database = CloudDatabase(url)
    try:
        with serving(create_app(CloudConfig(), database)) as address:
            yield url, SchoolBuilder.build(database), address
    finally:
        database.close()


def enrolled(fleet: Fleet, student: Id) -> SyncedDevice:
    """A device with a journal, as the daemon has one."""
    device = fleet.device(Grant("student", student), Grant("class", fleet.school.class_id("Class 7")))
    device.database.close()
    with pytest.MonkeyPatch.context() as patched:
        plain = DeviceDatabase.__init__
        patched.setattr(DeviceDatabase, "__init__", lambda self, path: plain(self, path, journal=Journal(journal_path(path))))
        return fleet.open(device.folder)


def study(device: SyncedDevice, fleet: Fleet, student: Id) -> None:
    """Whatever a device can write about a student, some of it such that the school refuses it."""
    device.records.record_attempts(student, [NewAttempt(q, True, "free", answer=f"{CANARY} {n}") for n, q in enumerate(fleet.questions)])
    device.records.update_profile(student, {"grade": f"{CANARY} {device.id[-6:]}"})
    plan = {"starts_on": "2027-01-01", "days": 7, "planner_version": CANARY, "forecast": {CANARY: CANARY}}
    device.records.add_plan(student, plan, [NewPlanItem(fleet.concepts[0], "2027-01-01", "new", 20, CANARY)])
    with pytest.MonkeyPatch.context() as patched:  # a question that the school does not know becomes a dead letter
        patched.setattr("daemon.records._demand_questions", lambda *_: None, raising=False)
        device.change(
            "INSERT INTO questions (id, topic_id, concept_ids, kind, stem, answers) SELECT ?, topic_id, concept_ids, kind, stem, answers FROM questions LIMIT 1",
            unknown := fleet.school.ids.new(),
        )
        device.records.record_attempts(student, [NewAttempt(unknown, True, "free", answer=CANARY)])


def test_no_byte_is_left_on_the_server_or_on_a_device_however_late(site: Site, tmp_path: Path) -> None:
    fleet, school = site.fleet, site.fleet.school
    fleet.add_class("Class 7")
    with school.database.transaction() as cursor:
        student = create_user(cursor, school.ids, school.id, CANARY, f"{CANARY} Ørsted", "student", ["Class 7"], school.clock.now_ms()).id
    there, away = enrolled(fleet, student), enrolled(fleet, student)
    for device in (there, away):
        device.sync()
    for device in (there, away):
        study(device, fleet, student)
    for device in (there, away, there):
        device.sync()
    for device in (there, away):
        study(device, fleet, student)  # and this stays queued
        lay_beside(device)
        assert {"device.sqlite3.journal"} < found_in(device.folder)
    with school.database.transaction() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute("SELECT count(*) FROM dead_letters")
        assert cursor.fetchone() == (2,)
        cursor.execute("SELECT count(*) FROM sync_conflicts")
        assert cursor.fetchone() != (0,)
    keep_up_school(school.database, school.id)
    assert school.value("SELECT count(*) FROM student_figures WHERE student_id = %s", student) == 1
    with closing(psycopg2.connect(site.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")
        cursor.execute("CREATE DATABASE carrel_restore_0123456789ab")  # as a restore leaves it that is killed
    assert len(site.at_school()) > 5

    environ = {"DATABASE_URL": site.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}
    (tmp_path / "backups").mkdir()
    made = CliRunner().invoke(main, ["backup", str(tmp_path / "backups"), "--json"], env=environ, catch_exceptions=False)
    backup = json.loads(made.output)["path"]
    result = CliRunner().invoke(main, ["erase", "--student", student, "--yes"], env=environ, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    still_there = [line for line in result.output.splitlines() if "still" in line]
    assert [line.split()[0] for line in still_there] == ["The", backup]
    assert "carrel_restore_0123456789ab" in still_there[0]
    assert CANARY not in result.output + (tmp_path / "erasures.jsonl").read_text()

    assert site.at_school() == set()
    for device in (there, away):
        device.sync()
        assert found_in(device.folder) == set()
        device.database.close()
        assert found_in(device.folder) == set()
    assert site.at_school() == set(), "what came late was not even written and deleted"


def test_no_byte_of_an_answer_is_left_that_was_let_go_of(site: Site, tmp_path: Path) -> None:
    fleet, school = site.fleet, site.fleet.school
    fleet.add_class("Class 7")
    with school.database.transaction() as cursor:
        student = create_user(cursor, school.ids, school.id, "mila", "Mila", "student", ["Class 7"], school.clock.now_ms()).id
    there, away = enrolled(fleet, student), enrolled(fleet, student)
    for device in (there, away, there, away):
        device.sync()
        answer_only(device, fleet, student)
        device.sync()
        lay_beside(device)
    keep_up_school(school.database, school.id)
    with school.database.transaction() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute("SELECT count(*) FROM dead_letters")
        assert cursor.fetchone() == (4,)
    age(school, there, away)
    with closing(psycopg2.connect(site.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CHECKPOINT")
    assert len(site.at_school()) > 3
    environ = {
        "DATABASE_URL": site.url,
        "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl"),
        "CARREL_CLOUD_RETENTION_ANSWERS_DAYS": "365",
    }
    result = CliRunner().invoke(main, ["tidy", "--clock-is-right", "--json"], env=environ, catch_exceptions=False)
    assert json.loads(result.stdout)["answers"] == 2 * 2 * len(fleet.questions) + 4
    assert site.at_school() == set()
    for device in (there, away):
        device.sync()
        assert found_in(device.folder) == set()
        device.database.close()
        assert found_in(device.folder) == set()
    assert site.at_school() == set()
    assert school.value("SELECT count(*) FROM question_attempts") == 2 * 2 * len(fleet.questions)


def answer_only(device: SyncedDevice, fleet: Fleet, student: Id) -> None:
    """Answers, and one that the school refuses."""
    device.records.record_attempts(student, [NewAttempt(q, True, "free", answer=f"{CANARY} {n}") for n, q in enumerate(fleet.questions)])
    device.change(
        "INSERT INTO questions (id, topic_id, concept_ids, kind, stem, answers) SELECT ?, topic_id, concept_ids, kind, stem, answers FROM questions LIMIT 1",
        unknown := fleet.school.ids.new(),
    )
    device.records.record_attempts(student, [NewAttempt(unknown, True, "free", answer=CANARY)])


def lay_beside(device: SyncedDevice) -> None:
    """Files as they may lie beside a database by then."""
    beside = device.folder / "device.sqlite3"
    for suffix in LEFT_BESIDE:
        path = device.folder / suffix.format(database=beside.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(CANARY)


def age(school: SchoolBuilder, *devices: SyncedDevice) -> None:
    """More than a year goes by for all that is at school now."""
    ms = 400 * 24 * 3600 * 1000
    with school.database.transaction() as cursor:
        cursor.execute("DELETE FROM feed_days")
        cursor.execute(
            "INSERT INTO feed_days SELECT id, %s, %s, head FROM schools", (school.clock.now_ms() - ms, school.clock.now_ms() - ms)
        )
        cursor.execute("UPDATE dead_letters SET received_at_ms = received_at_ms - %s", (ms,))
    for device in devices:
        device.change("UPDATE sync_operations SET settled_at_ms = settled_at_ms - ?", ms)


def test_a_backup_that_was_begun_before_the_erasure_is_not_finished_after_it(tmp_path: Path) -> None:
    with open_device(tmp_path) as device:
        device.execute("UPDATE users SET display_name = ? WHERE id = ?", CANARY, ADA)
        device.database.write(lambda conn: note(conn, [ErasureOrder(ADA, 7)]))
        identity = Identity(device.database, tmp_path, device.clock, IdSource(device.clock.now_ms))
        eraser, config = Eraser(device.database, identity), load_config(None, {"CARREL_DEVICE_STATE_DIR": str(tmp_path)})

        def erasing_meanwhile() -> bool:
            with suppress(Unavailable):  # the backup still reads what was there before
                eraser.carry_out()
            return True

        with pytest.raises(OperatorError):
            back_up(replace(config, database_path=device.database.path), device.clock, go_on=erasing_meanwhile)
        eraser.carry_out()
        assert found_in(tmp_path) == set()


def test_a_device_that_is_wiped_keeps_no_byte_either(tmp_path: Path) -> None:
    with open_device(tmp_path) as device:
        device.execute("UPDATE users SET display_name = ? WHERE id = ?", CANARY, ADA)
        assert device.signed_in().post("/attempts", json=attempt(answer=CANARY)).status_code == 201
        database = device.database.path
    for name in LEFT_BESIDE:
        path = tmp_path / name.format(database=database.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(CANARY)
    strip(database, tmp_path, discarding_unsent=True)
    assert found_in(tmp_path) == set()


def test_after_a_restore_an_erasure_leaves_no_byte_either(site: Site, tmp_path: Path) -> None:
    fleet, school = site.fleet, site.fleet.school
    fleet.add_class("Class 7")
    with school.database.transaction() as cursor:
        student = create_user(cursor, school.ids, school.id, CANARY, f"{CANARY} Ørsted", "student", ["Class 7"], school.clock.now_ms()).id
    device = enrolled(fleet, student)
    device.sync()
    study(device, fleet, student)
    device.sync()
    environ = {"CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}

    def command(*words: str) -> str:
        result = CliRunner().invoke(main, [*words, "--embedded", "--data-dir", str(site.data_dir)], env=environ, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    made = json.loads(command("backup", str(tmp_path / "backups"), "--json"))["path"]
    restored = json.loads(command("restore", made, "--json"))
    assert restored["rights_to_give"] == []
    with closing(psycopg2.connect(site.url.rpartition("/")[0] + "/postgres")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"DROP DATABASE {restored['replaced']}")
    assert site.at_school() != set()
    command("erase", "--student", student, "--yes")
    assert site.at_school() == set()
