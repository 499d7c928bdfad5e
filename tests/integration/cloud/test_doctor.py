"""`carrel-cloud doctor` over a real PostgreSQL: each fault is found, with what helps."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from cloud_api.backups.making import SUFFIX
from cloud_api.cli import main
from cloud_api.config import CloudConfig, Server, Tls
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.doctor import files, machine, postgres
from cloud_api.doctor.contents import devices
from cloud_api.doctor.examination import examine_server
from domain.clock import SystemClock
from domain.findings import EXIT_ERRORS, Finding, Severity
from tests.support.cloud import SchoolBuilder, serving

CLOCK = SystemClock()
DAY_MS = machine.DAY_MS
PUBLIC = ("carrel.example.school",)


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """A folder with a backup of this moment, as far as its name says."""
    (tmp_path / "backups").mkdir(0o700)
    (tmp_path / "backups" / name_of(0)).touch(0o600)
    return tmp_path / "backups"


def name_of(age_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp((CLOCK.now_ms() - age_ms) / 1000, datetime.UTC)
    return f"carrel.0001_initial.{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}Z{SUFFIX}"


def wrong(found: list[Finding]) -> dict[str, Finding]:
    """Check -> its worst finding, without those that PostgreSQL's settings for tests cause, which skip the disk."""
    order = list(Severity)
    bad: dict[str, Finding] = {}
    for one in found:
        if one.severity not in (Severity.OK, Severity.NOTE) and one.check not in ("database", "listener", "connections"):
            bad[one.check] = max(bad.get(one.check, one), one, key=lambda finding: order.index(finding.severity))
    return bad


@pytest.fixture(autouse=True)
def erasures_in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_CLOUD_ERASURES_FILE", str(tmp_path / "erasures.jsonl"))


def test_a_server_that_is_well_has_no_fault(cloud_database: str, cloud_school: SchoolBuilder, backups: Path) -> None:
    assert wrong(examine_server(CloudConfig(), cloud_database, backups, CLOCK)) == {}


def test_a_server_that_listens_is_ready_and_has_a_name_that_devices_can_use(flask_cloud: Flask, cloud_database: str, backups: Path) -> None:
    with serving(flask_cloud) as url:
        port = int(url.rpartition(":")[2])
        here = list(machine.listener(CloudConfig(server=Server(port=port)), CLOCK))
        named = list(machine.listener(CloudConfig(server=Server(port=port, trusted_hosts=(*Server().trusted_hosts, *PUBLIC))), CLOCK))
        flask_cloud.config["TRUSTED_HOSTS"] = list(PUBLIC)
        alone = list(machine.listener(CloudConfig(server=Server(port=port, trusted_hosts=PUBLIC)), CLOCK))
    assert [one.severity for one in here] == [Severity.OK, Severity.WARNING]
    assert [one.severity for one in named] == [Severity.OK]
    assert [one.severity for one in alone] == [Severity.OK], "it is asked under a name that it has"
    (gone, _) = machine.listener(CloudConfig(server=Server(port=port)), CLOCK)
    assert gone.severity is Severity.ERROR
    assert "carrel-cloud serve" in gone.remedy


def test_a_server_without_its_database_says_so_and_nothing_else_of_it(cloud_database: str, backups: Path) -> None:
    url = cloud_database.rpartition("/")[0] + "/no_such_database"
    found = examine_server(CloudConfig(), url, backups, CLOCK)
    assert [one.check for one in found if one.check not in ("versions", "listener", "permissions")] == ["database"]
    assert found[-1].severity is Severity.ERROR


FAULTS: dict[str, tuple[str, Severity, Callable[[SchoolBuilder], object], str]] = {
    "an older schema": ("schema", Severity.ERROR, lambda s: change(s, "DELETE FROM migration_history"), ""),
    "a code that nobody lets go of": (
        "tidy", Severity.WARNING, lambda s: expired_code(s), "carrel-cloud tidy",
    ),
    "a clock that ran ahead": (
        "clock", Severity.ERROR, lambda s: change(s, "INSERT INTO feed_days (school_id, day_ms, noted_at_ms, head) SELECT id, 0, 0, 0 FROM schools"), "NTP",
    ),
    "a refused operation": ("queue", Severity.WARNING, lambda s: change(s, _LETTER), "dead-letters list"),
}  # fmt: skip
_LETTER = """
INSERT INTO dead_letters (school_id, id, device_id, incarnation, seq, table_name, row_id, kind, schema_version, hlc, wall_ms, payload, code,
                          message, received_at_ms)
SELECT id, id, id, id, 1, 'question_attempts', id, 'insert', 1, 0, 0, '{}', 'not_granted', '', 0 FROM schools
"""


def expired_code(school: SchoolBuilder) -> None:
    school.code(Grant("student", school.add_user("ada").id))
    change(school, "UPDATE enrolment_codes SET expires_at_ms = 1")


def change(school: SchoolBuilder, statement: str) -> None:
    with school.database.transaction() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found_and_said_with_what_helps(
    cloud_database: str, cloud_school: SchoolBuilder, backups: Path, fault: str
) -> None:
    check, severity, make, helps = FAULTS[fault]
    make(cloud_school)
    found = wrong(examine_server(CloudConfig(), cloud_database, backups, CLOCK))[check]
    assert found.severity is severity
    assert helps in found.remedy


def test_a_device_that_was_silent_for_long_is_named_a_note(open_cloud_database: CloudDatabase, cloud_school: SchoolBuilder) -> None:
    cloud_school.enrol(Grant("student", cloud_school.add_user("ada").id))
    assert [one.severity for one in devices(open_cloud_database, CLOCK)] == [Severity.OK]
    change(cloud_school, "UPDATE devices SET enrolled_at_ms = 1, last_seen_ms = 1")
    assert [one.severity for one in devices(open_cloud_database, CLOCK)] == [Severity.NOTE]


@pytest.mark.parametrize(
    ("age_ms", "severity"), [(0, Severity.OK), (2 * DAY_MS, Severity.WARNING), (8 * DAY_MS, Severity.ERROR), (None, Severity.ERROR)]
)
def test_a_backup_may_not_grow_old(tmp_path: Path, age_ms: int | None, severity: Severity) -> None:
    if age_ms is not None:
        (tmp_path / name_of(age_ms)).touch()
        (tmp_path / name_of(age_ms + DAY_MS)).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / name_of(-300 * DAY_MS)).touch()  # of a clock that ran ahead
    (found,) = machine.backups(tmp_path, CLOCK)
    assert found.severity is severity


def test_settings_that_lose_what_was_confirmed_are_errors(open_cloud_database: CloudDatabase) -> None:
    with open_cloud_database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT current_setting('fsync')")
        [(fsync,)] = cursor.fetchall()
    said = " ".join(one.message for one in postgres.settings(open_cloud_database) if one.severity is Severity.ERROR)
    assert ("fsync" in said) == (fsync == "off")


def test_more_connections_than_postgresql_allows_are_a_warning(open_cloud_database: CloudDatabase) -> None:
    config = CloudConfig()
    few, many = (replace(config, server=replace(config.server, workers=workers)) for workers in (1, 64))
    assert [one.severity for one in postgres.connections(open_cloud_database, few)] == [Severity.OK]
    assert [one.severity for one in postgres.connections(open_cloud_database, many)] == [Severity.WARNING]


def test_the_command_says_it_in_json_and_by_its_exit_code(cloud_database: str, backups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_CLOUD_SERVER_PORT", "1")
    done = CliRunner().invoke(main, ["doctor", "--database-url", cloud_database, "--backups", str(backups), "--json"])
    answer = json.loads(done.stdout)
    assert done.exit_code == EXIT_ERRORS
    assert {one["check"] for one in answer["findings"]} >= {"listener", "database", "schema", "backups", "devices"}


def test_a_backup_a_register_or_a_key_that_others_may_read_is_an_error(backups: Path, tmp_path: Path) -> None:
    register, key = tmp_path / "erasures.jsonl", tmp_path / "key.pem"
    config = CloudConfig(erasures_file=str(register), tls=Tls(certificate=str(key)))
    for path in (register, key):
        path.touch(0o600)
    assert [one.severity for one in files.permissions(config, backups)] == [Severity.OK]
    (dump,) = backups.iterdir()
    for path, what in ((dump, dump.name), (backups, "backups"), (register, register.name), (key, key.name)):
        before = path.stat().st_mode
        path.chmod(0o755)
        (found,) = files.permissions(config, backups)
        assert (found.severity, what in found.message, found.fix is None) == (Severity.ERROR, True, path == key)
        path.chmod(before)


def test_what_is_safe_is_put_right_when_that_is_asked_for_and_not_before(
    cloud_database: str, cloud_school: SchoolBuilder, backups: Path
) -> None:
    expired_code(cloud_school)
    student = cloud_school.add_user("left long ago").id
    with cloud_school.database.transaction() as cursor:
        cursor.execute("UPDATE users SET retired_at_ms = 1 WHERE id = %s", (student,))
    (old,) = backups.iterdir()
    old = old.rename(backups / name_of(2 * DAY_MS))
    old.chmod(0o644)
    arguments = ["doctor", "--database-url", cloud_database, "--backups", str(backups), "--json"]

    def found(*more: str) -> tuple[set[str], list[str]]:
        answer = json.loads(
            CliRunner().invoke(main, [*arguments, *more], env={"CARREL_CLOUD_RETENTION_RETIRED_STUDENTS_DAYS": "365"}).stdout
        )
        bad = {one["check"] for one in answer["findings"] if one["severity"] in ("warning", "error")}
        return bad & {"permissions", "backups", "tidy"}, answer["fixed"]

    assert found() == ({"permissions", "backups", "tidy"}, [])
    assert list(backups.iterdir()) == [old]
    assert found("--fix") == (set(), ["permissions", "backups", "tidy"])
    assert old in backups.iterdir()  # what has to go, the nightly backup says
    assert found("--fix") == (set(), [])
    assert cloud_school.value("SELECT count(*) FROM erasures") == 0, "nobody is erased but by a command that leaves no byte"
