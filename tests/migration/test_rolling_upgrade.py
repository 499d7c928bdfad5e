"""A release's migration is applied while the servers of the release before are at work: they go on, and their devices notice nothing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from click.testing import CliRunner

import migrations.cloud
from cloud_api.app import create_app
from cloud_api.cli import main
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from migrations.files import files_in
from migrations.lint import cloud_findings
from migrations.runner import upgrade_cloud
from tests.migration.conftest import Target
from tests.support.cloud import SchoolBuilder, serving
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite, running_fleet

SHIPPED = Path(str(migrations.cloud.__file__)).parent
ANSWER_MAX_S = 60
STOP_MAX_S = 30
# What a next release might bring, on tables that every request reads and writes.
NEXT = [
    "ALTER TABLE users ADD COLUMN nickname text",
    "ALTER TABLE question_attempts ADD COLUMN hints integer NOT NULL DEFAULT 0",
    "ALTER TABLE devices ADD COLUMN model text NOT NULL DEFAULT ''",
    "CREATE TABLE badges (school_id uuid NOT NULL REFERENCES schools (id), id uuid NOT NULL, title text NOT NULL, PRIMARY KEY (school_id, id))",
]
BACK = [
    "DROP TABLE badges",
    "ALTER TABLE devices DROP COLUMN model",
    "ALTER TABLE question_attempts DROP COLUMN hints",
    "ALTER TABLE users DROP COLUMN nickname",
]


@pytest.fixture
def school(cloud: Target) -> Target:
    """A migrated database, and a folder with the shipped files and those of the next two releases."""
    upgrade_cloud(cloud.url)
    for file in SHIPPED.glob("[0-9]*.py"):
        shutil.copy(file, cloud.folder.path)
    cloud.folder.add("9998_next", NEXT, BACK)
    cloud.folder.add("9999_after_next", ["ALTER TABLE users ADD COLUMN pronoun text"], ["ALTER TABLE users DROP COLUMN pronoun"])
    return cloud


@pytest.fixture
def fleet(school: Target, tmp_path: Path) -> Iterator[Fleet]:
    """The school with the present server at work, and its devices."""
    database = CloudDatabase(school.url)
    try:
        with serving(create_app(CloudConfig(), database)) as url, running_fleet(SchoolBuilder.build(database), url, tmp_path) as running:
            yield running
    finally:
        database.close()


def ready(url: str) -> tuple[int, Any]:
    with urllib3.PoolManager() as http:
        answer = http.request("GET", f"{url}/readyz", timeout=ANSWER_MAX_S, retries=False)
    return answer.status, answer.json()


def same_attempts(fleet: Fleet, *devices: SyncedDevice) -> int:
    """How many attempts there are, on every device and on the server alike."""
    server = as_sqlite(fleet.server_rows("question_attempts"))
    for device in devices:
        assert device.synced_rows("question_attempts") == server
    return len(server)


def test_a_server_works_on_through_the_next_releases_migration_and_refuses_the_one_after_it(school: Target, fleet: Fleet) -> None:
    ada = fleet.school.add_user("ada").id
    laptop, tablet = fleet.device(Grant("student", ada)), fleet.device(Grant("student", ada))

    def study_and_sync() -> None:
        laptop.records.record_attempts(ada, fleet.attempts(5))
        tablet.records.record_attempts(ada, fleet.attempts(5))
        for device in (laptop, tablet, laptop):
            assert device.sync().outcome == "done"

    for device in (laptop, tablet):
        device.sync()  # brings the course
    study_and_sync()
    school.upgrade("+1")
    assert ready(fleet.url) == (200, {"status": "ready", "schema": "9998_next"})
    study_and_sync()
    fleet.school.enrol(Grant("student", ada))
    assert same_attempts(fleet, laptop, tablet) == 20

    school.upgrade("+1")
    status, problem = ready(fleet.url)
    assert (status, problem["code"]) == (503, "unavailable")
    laptop.records.record_attempts(ada, fleet.attempts(5))
    assert laptop.sync().outcome != "done"
    assert same_attempts(fleet) == 20

    school.downgrade("-1")
    assert ready(fleet.url)[0] == 200
    study_and_sync()
    assert same_attempts(fleet, laptop, tablet) == 35


def test_the_next_releases_migration_of_this_test_is_one_that_the_lint_allows(school: Target) -> None:
    assert cloud_findings(files_in(school.folder.path)) == []


def test_status_says_that_the_schema_is_newer_and_not_that_it_is_up_to_date(school: Target) -> None:
    school.upgrade("9998_next")
    own = files_in(SHIPPED)[-1].name
    result = CliRunner().invoke(main, ["status"], env={"DATABASE_URL": school.url})
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"schema 9998_next, one step newer than this version ({own})")
    assert "up to date" not in result.stdout
    school.upgrade()
    assert CliRunner().invoke(main, ["status"], env={"DATABASE_URL": school.url}).exit_code == 4


def test_a_server_that_is_started_anew_in_the_middle_of_a_rolling_upgrade_serves(school: Target) -> None:
    """With the real program, which migrates before it serves, and has nothing to migrate here."""
    school.upgrade("9998_next")
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
    environ = os.environ | {"DATABASE_URL": school.url}
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        assert select.select([server.stdout], [], [], ANSWER_MAX_S)[0]
        line = server.stdout.readline()
        assert line, server.communicate(timeout=STOP_MAX_S)
        assert ready(line.split()[-1]) == (200, {"status": "ready", "schema": "9998_next"})
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=STOP_MAX_S)
    finally:
        server.kill()
        server.communicate()
    assert server.returncode == 0


def test_a_server_two_steps_behind_is_not_started(school: Target) -> None:
    school.upgrade()
    result = CliRunner().invoke(main, ["serve", "--port", "0"], env={"DATABASE_URL": school.url})
    assert result.exit_code == 4
    assert "newer than" in result.stderr
