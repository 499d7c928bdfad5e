"""`make dev` and `make seed` as a developer uses them, in a copy of the project whose code is changed meanwhile."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from cloud_api.database import CloudDatabase, one_row
from daemon.process.state_folder import find_running
from tests.support.devstack import POLL_S, ROOT, WAIT_S, Command, devstack, reachable_temporary_folder

PACKAGES = ("domain", "loglines", "webpages", "daemon", "cloud_api", "migrations", "devstack", "seeds")
ANY_PORT = {"CARREL_DEVICE_API_PORT": "0", "CARREL_CLOUD_SERVER_PORT": "0"}
FOLLOWING = "A part whose code changes is started again."
HEALTH = 'Health("ok")'


@pytest.fixture
def project() -> Iterator[Path]:
    """A copy of the code, which a test may change."""
    with reachable_temporary_folder() as folder:
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("config.toml", "constraints.txt", "setup.cfg"):
            shutil.copy(ROOT / name, folder)
        yield folder


def address(command: Command, name: str) -> str:
    [url] = re.findall(rf"^  {name} +(\S+)", command.output, re.MULTILINE)
    return str(url)


def await_health(url: str, status: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            if (said := urllib3.request("GET", f"{url}/v1/health", retries=False).json()["status"]) == status:
                return
        except urllib3.exceptions.HTTPError as error:  # not up again yet
            said = str(error)
        assert time.monotonic() < deadline_s, said
        time.sleep(POLL_S)


def await_said(command: Command, text: str, *, since: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while text not in command.output.removeprefix(since):
        assert time.monotonic() < deadline_s, command.output
        time.sleep(POLL_S)


def test_the_part_whose_code_changed_is_started_again_and_broken_code_waits_to_be_mended(project: Path) -> None:
    state, route = project / ".state", project / "daemon" / "api" / "routes" / "health.py"
    with devstack("dev", folder=project, root=project, CARREL_STATE_DIR=str(state), **ANY_PORT) as command:
        command.wait_for(FOLLOWING)
        url, works = address(command, "daemon"), route.read_text()
        before = command.output
        await_health(url, "ok")

        assert HEALTH in works
        route.write_text(works.replace(HEALTH, 'Health("changed")'))
        await_health(url, "changed")
        await_said(command, "Daemon", since=before)
        assert "Cloud API" not in command.output.removeprefix(before)

        route.write_text("def health(:")
        command.wait_for("It is started again when its code has changed.")
        assert "SyntaxError" in command.output
        assert find_running(state / "device") is None

        route.write_text(works)
        await_health(url, "ok")
        (project / "domain" / "clock.py").touch()
        await_said(command, "Cloud API", since=before)
        assert command.signal(signal.SIGINT) == 0, command.output


def test_seeding_fills_a_database_once_and_leaves_it_as_it_is_the_second_time(fresh_database: str, tmp_path: Path) -> None:
    def seeded() -> tuple[int, ...]:
        with devstack("seed", folder=tmp_path, CARREL_STATE_DIR=str(tmp_path / "state"), DATABASE_URL=fresh_database) as command:
            assert command.wait() == 0, command.output
            assert "Demo School, class 8b, students amara, jonas, mila" in command.output
        with closing(CloudDatabase(fresh_database)) as database, database.transaction(read_only=True) as cursor:
            cursor.execute("SELECT (SELECT count(*) FROM schools), (SELECT count(*) FROM users), (SELECT count(*) FROM questions)")
            return one_row(cursor)

    first = seeded()
    assert first == (1, 4, 544)
    assert seeded() == first
