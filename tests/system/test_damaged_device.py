"""A real daemon whose file is damaged, whose disk is full, or whose disk is copied: every answer that it acknowledged reaches the school, once."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_api.devices.enrolment import Grant
from daemon.process.state_folder import find_running, read_app_token
from daemon.recovery.integrity import SUFFIX as HEALTH
from daemon.service import EXIT_FAILED
from domain.clock import SystemClock
from domain.errors import AlreadyRunning, CarrelError
from domain.ids import Id, IdSource, dashed
from tests.chaos.processes import ROOT, Daemon, wait_until
from tests.chaos.proxy import FaultyProxy, faulty_proxy
from tests.support.cloud import (
    SchoolBuilder,
    cloud_database,
    cloud_school,
    cloud_template,
    flask_cloud,
    live_cloud,
    open_cloud_database,
)
from tests.support.fleet import Fleet, running_fleet

__all__ = ["cloud_database", "cloud_school", "cloud_template", "flask_cloud", "live_cloud", "open_cloud_database"]

IDS = IdSource(SystemClock().now_ms)
DATABASE = "device.sqlite3"
PAGE = 4096
ASK_MAX_S = 30.0
COMMAND_MAX_S = 60.0
REFUSED: dict[str, float] = {"refuse": 1}


@dataclass
class Device:
    """An enrolled device, its daemon, and the way to its school."""

    fleet: Fleet
    student: Id
    proxy: FaultyProxy
    daemon: Daemon

    @property
    def database(self) -> Path:
        return self.daemon.database_path

    def restart(self) -> None:
        self.daemon.kill()
        self.daemon.start()
        self.daemon.await_ready()

    def answer(self, count: int, size: int = 1) -> tuple[set[str], int]:
        """Gives answers one by one until one is refused: the ids of those that were acknowledged, and the last status."""
        acknowledged: set[str] = set()
        with self.asking() as ask:
            status, session = ask("POST", "/v1/sessions", {"student_id": dashed(self.student)}, read_app_token(self.daemon.state_dir))
            while status == 201 and len(acknowledged) < count:
                id_ = IDS.new()
                attempt = {"id": dashed(id_), "question_id": dashed(self.fleet.questions[0]), "correct": True, "answer": "x" * size}
                status, _ = ask("POST", "/v1/attempts", attempt | {"purpose": "free"}, session["token"])
                acknowledged |= {id_} if status == 201 else set()
        return acknowledged, status

    def status(self) -> dict[str, Any]:
        status = self.daemon.status()
        assert status is not None
        return status

    @contextmanager
    def asking(self) -> Iterator[Callable[..., tuple[int, Any]]]:
        found = find_running(self.daemon.state_dir)
        assert found is not None
        with closing(http.client.HTTPConnection(found[0].host, found[0].port, timeout=ASK_MAX_S)) as connection:

            def ask(method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
                headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                response = connection.getresponse()
                return response.status, json.loads(response.read() or b"{}")

            yield ask

    def arrives(self, acknowledged: set[str], *, though_full: bool = False) -> None:
        """Waits until everything is at school and `status` says so; fails when something is there twice or not at all.

        What comes from school finds no room on a full disk, and `status` says that then.
        """
        self.proxy.heal()

        def is_over() -> bool:
            self.daemon.sync()
            status = self.status()
            return bool(status["pending"] == 0 and (status["reason"] == "storage_full" if though_full else status["state"] == "synced"))

        wait_until(is_over, f"everything is at school; it says {self.status()}")
        at_school = [row[0] for row in self.fleet.server_rows("question_attempts")]
        assert acknowledged <= set(at_school)
        assert len(at_school) == len(set(at_school))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = self.daemon._environ
        command = [sys.executable, "-m", "daemon.cli", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environ, text=True, capture_output=True, timeout=COMMAND_MAX_S, check=False)


@contextmanager
def enrolled(fleet: Fleet, folder: Path, proxy: FaultyProxy, student: Id, *grants: Grant) -> Iterator[Device]:
    """A device in a folder of its own, enrolled and filled, whose daemon does not run yet; killed in the end."""
    state_dir = folder / "state"
    state_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
    device = Device(fleet, student, proxy, Daemon(state_dir, state_dir / DATABASE))
    code = fleet.school.code(*grants)
    done = device.command("enrol", proxy.url, code, "--name", folder.name)
    assert done.returncode == 0, done.stderr
    try:
        yield device
    finally:
        device.daemon.kill()


@pytest.fixture
def fleet(cloud_school: SchoolBuilder, live_cloud: str, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(cloud_school, live_cloud, tmp_path) as running:
        yield running


@pytest.fixture
def proxy(live_cloud: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(int(live_cloud.rpartition(":")[2]), seed=1) as proxy:
        yield proxy


@pytest.fixture
def device(fleet: Fleet, proxy: FaultyProxy, tmp_path: Path) -> Iterator[Device]:
    """Ada's laptop, running, with the course and some answers that are at school."""
    ada = Id(fleet.school.add_user("ada").id)
    with enrolled(fleet, tmp_path / "laptop", proxy, ada, Grant("student", ada)) as device:
        device.restart()
        wait_until(lambda: device.status()["state"] == "synced", "the first sync")
        device.arrives(device.answer(5)[0])
        yield device


def noise(file: Path, every: int = 4) -> None:
    data = bytearray(file.read_bytes())
    for at in range(3 * PAGE, len(data), every * PAGE):
        data[at : at + 100] = os.urandom(100)
    file.write_bytes(data)


def halved(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def without_wal(file: Path) -> None:
    file.with_name(file.name + "-wal").unlink()


def test_NO_LOST_OP_a_file_that_is_damaged_while_the_power_is_off_costs_no_answer(device: Device) -> None:
    acknowledged: set[str] = set()
    for damage in (noise, halved, without_wal, Path.unlink):
        device.proxy.break_all(REFUSED)
        unsent, _ = device.answer(20)
        device.daemon.kill()
        damage(device.database)
        device.restart()
        status = device.status()
        assert status["pending"] >= 20, damage  # without its -wal it does not know what it has heard from school last
        assert any("the database of this device was replaced or repaired" in notice for notice in status["notices"])
        acknowledged |= unsent
        device.arrives(acknowledged)
        assert device.status()["notices"] == []


def test_NO_LOST_OP_a_file_that_is_damaged_under_the_running_daemon_costs_no_answer(device: Device) -> None:
    """The daemon ends with an error, and the service manager starts the next one, which sets the file aside."""
    device.proxy.break_all(REFUSED)
    acknowledged, _ = device.answer(10)
    noise(device.database, every=1)  # a page that is cached, or in the log, is not missed

    def has_ended() -> bool:
        with suppress(OSError, http.client.HTTPException, AssertionError, CarrelError):
            acknowledged.update(device.answer(1)[0])
        return not device.daemon.alive

    wait_until(has_ended, "the daemon notices")
    device.daemon.kill()
    assert device.daemon.exit_code == EXIT_FAILED
    device.restart()
    assert "Note: On " in device.command("status").stdout
    device.arrives(acknowledged)


def test_a_daemon_that_was_killed_looks_at_its_file_and_one_that_was_stopped_says_so(device: Device) -> None:
    health = device.database.with_name(DATABASE + HEALTH)
    assert json.loads(health.read_text())["in_use"] is True
    device.daemon.kill()
    assert json.loads(health.read_text())["in_use"] is True
    device.restart()
    os.kill(device.daemon.pid, 15)
    wait_until(lambda: not device.daemon.alive, "it stops")
    assert json.loads(health.read_text())["in_use"] is False


# --- a full disk


@contextmanager
def small_disk(path: Path, size_mb: int) -> Iterator[None]:
    """A file system of so many megabytes at `path`; skips the test where none may be mounted."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "carrel-test", str(path)], capture_output=True, timeout=30, check=False
    )
    if done.returncode != 0:
        pytest.skip("no file system may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=30)


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounts a small disk, which only root may")
def test_a_full_disk_refuses_answers_keeps_and_sends_what_it_has_and_recovers_by_itself(
    fleet: Fleet, proxy: FaultyProxy, tmp_path: Path
) -> None:
    ada = Id(fleet.school.add_user("ada").id)
    folder = tmp_path / "laptop"
    disk = folder / "state"
    disk.mkdir(parents=True)
    with small_disk(disk, 40), enrolled(fleet, folder, proxy, ada, Grant("student", ada)) as device:
        device.restart()
        wait_until(lambda: device.status()["state"] == "synced", "the first sync")
        proxy.break_all(REFUSED)
        acknowledged, _ = device.answer(50)
        filler = disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(64 * 1024)):
                pass
        more, refused = device.answer(20_000, size=300)
        assert refused == 507
        acknowledged |= more
        assert any("The disk is full" in notice for notice in device.status()["notices"])
        with device.asking() as ask:
            assert ask("GET", "/v1/health")[0] == 200
        device.arrives(acknowledged, though_full=True)
        assert any("The disk is full" in notice for notice in device.status()["notices"])
        device.restart()  # on a full disk, too
        assert device.answer(1)[1] == 507
        filler.unlink()
        wait_until(lambda: device.answer(1)[1] == 201, "it recovers by itself")
        assert not any("The disk is full" in notice for notice in device.status()["notices"])
        device.arrives(acknowledged)


# --- images


def test_an_image_starts_with_the_course_and_becomes_a_device_of_its_own_on_each_laptop(
    fleet: Fleet, proxy: FaultyProxy, device: Device, tmp_path: Path
) -> None:
    running = device.command("prepare-image")
    assert running.returncode == AlreadyRunning.exit_code
    proxy.break_all(REFUSED)
    acknowledged, _ = device.answer(2)
    device.daemon.kill()
    refused = device.command("prepare-image", "--json")
    assert refused.returncode != 0
    assert "2 changes are not at school yet" in refused.stderr
    device.restart()
    device.arrives(acknowledged)
    device.daemon.kill()
    for _ in range(2):  # once more changes nothing
        done = device.command("prepare-image", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["questions"] == len(fleet.questions)
    state = device.daemon.state_dir
    left = b"".join(file.read_bytes() for file in state.rglob("*") if file.is_file())
    for personal in (b"Ada", device.student.encode(), *(id_.encode() for id_ in acknowledged)):
        assert personal not in left
    ben = Id(fleet.school.add_user("ben").id)
    for name, student in (("one", device.student), ("two", ben)):
        folder = tmp_path / name
        shutil.copytree(state, folder / "state")
        clone = Device(fleet, student, proxy, Daemon(folder / "state", folder / "state" / DATABASE))
        try:
            clone.restart()
            status = clone.status()
            assert (status["state"], status["pending"], status["notices"]) == ("not_enrolled", 0, [])
            done = clone.command("enrol", proxy.url, fleet.school.code(Grant("student", student)))
            assert done.returncode == 0, done.stderr
            wait_until(lambda clone=clone: clone.status()["state"] == "synced", "the first sync")  # type: ignore[misc]
            acknowledged |= clone.answer(3)[0]
            clone.arrives(acknowledged)
        finally:
            clone.daemon.kill()
    devices = fleet.server("SELECT count(*) FROM devices")
    assert devices == [(3,)]
