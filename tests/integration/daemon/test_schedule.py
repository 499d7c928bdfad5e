"""The schedule with real threads, real files and real events; only the tasks are the test's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.config import DeviceConfig, load_config, prepare_folders
from daemon.process.live_config import LiveConfig
from daemon.schedule import Schedule, Tasks
from daemon.sync.round import RoundResult, SyncStatus
from domain.clock import SystemClock

WAIT_S = 5.0
QUIET_S = 0.3


class Rounds:
    """Sync rounds that end as the test says."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.outcome = "done"
        self.next_attempt_in_s: float | None = 0.02
        self.poll_after_s: float | None = None
        self._changed = threading.Condition()

    def run(self, *, forced: bool = False) -> RoundResult:
        with self._changed:
            self.outcomes.append(self.outcome)
            self._changed.notify_all()
            return RoundResult(self.outcome)

    def status(self) -> SyncStatus:
        return SyncStatus("waiting", None, None, 0, 0, None, None, None, self.next_attempt_in_s)

    def reaches(self, rounds: int, timeout_s: float = WAIT_S) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self.outcomes) >= rounds, timeout_s)


class Running:
    """A schedule over a configuration file in a folder of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.file = tmp_path / "etc" / "config.toml"
        self.file.parent.mkdir()
        self.write()
        self.config = load_config(self.file, {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state")})
        prepare_folders(self.config)
        self.rounds = Rounds()
        self.looks = threading.Semaphore(0)
        self.again = False
        self.reloaded = threading.Event()
        self.live = LiveConfig(self.config, {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state")}, self._follow)
        tasks = Tasks(self.rounds, lambda: None, self._look, self.live.check)
        self.schedule = Schedule(tasks, self.live, SystemClock())

    def write(self, more: str = "") -> None:
        self.file.write_text(f"[device.sync]\npoll_s = 3600\ndebounce_ms = 20\n{more}")

    def _look(self) -> bool:
        self.looks.release()
        again, self.again = self.again, False
        return again

    def _follow(self, config: DeviceConfig) -> None:
        self.schedule.follow(config)
        self.reloaded.set()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    running.schedule.start()
    assert running.rounds.reaches(1), "the first round comes at the start"
    assert running.looks.acquire(timeout=WAIT_S)
    yield running
    assert running.schedule.stop(WAIT_S) == []


def test_many_local_changes_lead_to_one_round_soon(running: Running) -> None:
    for _ in range(500):
        running.schedule.request_sync()
    assert running.rounds.reaches(2)
    assert not running.rounds.reaches(3, QUIET_S)


def test_a_round_that_met_another_one_is_repeated(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.schedule.BUSY_RETRY_S", 0.02)
    running.rounds.outcome, running.rounds.next_attempt_in_s = "busy", None
    running.schedule.request_sync()
    assert running.rounds.reaches(3)
    running.rounds.outcome = "done"


def test_a_failed_round_is_repeated_when_its_backoff_ends(running: Running) -> None:
    running.rounds.outcome = "offline"
    running.schedule.request_sync()
    assert running.rounds.reaches(4)
    running.rounds.outcome = "done"


def test_without_enrolment_nothing_is_repeated_before_the_next_poll(running: Running) -> None:
    running.rounds.outcome = "not_enrolled"
    running.schedule.request_sync()
    assert running.rounds.reaches(2)
    assert not running.rounds.reaches(3, QUIET_S)


def test_the_server_may_ask_for_a_slower_pace_but_not_for_a_faster_one(running: Running) -> None:
    running.rounds.poll_after_s = 0.01
    running.schedule.request_sync()
    assert running.rounds.reaches(2)
    assert not running.rounds.reaches(3, QUIET_S)


def test_a_changed_pace_holds_when_the_file_is_saved(running: Running) -> None:
    running.file.write_text("[device.sync]\npoll_s = 1\njitter = 0\n")
    assert running.reloaded.wait(WAIT_S)
    assert running.rounds.reaches(3)


def test_a_file_in_the_inbox_is_looked_at(running: Running) -> None:
    (running.config.inbox_dir / "course.carrel-content").touch()
    assert running.looks.acquire(timeout=WAIT_S)


def test_an_inbox_with_a_file_that_is_still_written_is_looked_at_again(running: Running) -> None:
    running.again = True
    running.write("[device.inbox]\nsteady_ms = 50\n")
    assert running.reloaded.wait(WAIT_S)
    while running.looks.acquire(timeout=QUIET_S):
        pass
    running.again = True
    (running.config.inbox_dir / "course.carrel-content").touch()
    assert running.looks.acquire(timeout=WAIT_S)
    assert running.looks.acquire(timeout=WAIT_S)


def test_a_configuration_beside_the_database_is_reloaded_without_watching_that_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    file = state / "config.toml"
    file.write_text("[device.jobs]\nrescan_s = 1\n[device.sync]\npoll_s = 3600\n")
    environ = {"CARREL_DEVICE_STATE_DIR": str(state)}
    config = load_config(file, environ)
    prepare_folders(config)
    changed = threading.Event()
    live = LiveConfig(config, environ, lambda _: changed.set())
    schedule = Schedule(Tasks(Rounds(), lambda: None, lambda: False, live.check), live, SystemClock())
    assert [watched.folder for watched in schedule._watched(config)] == [config.inbox_dir]
    schedule.start()
    try:
        file.write_text("[device.jobs]\nrescan_s = 1\n[device.sync]\npoll_s = 60\n")
        assert changed.wait(WAIT_S)
    finally:
        schedule.stop(WAIT_S)


def test_a_watched_folder_is_never_that_of_the_database(tmp_path: Path) -> None:
    running = Running(tmp_path)
    folders = {watched.folder for watched in running.schedule._watched(replace(running.config))}
    assert running.config.database_path.parent not in folders
    assert folders == {running.file.parent, running.config.inbox_dir}


def test_it_is_looked_now_and_then_whether_a_comparison_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.schedule.VERIFY_LOOK_S", 0.02)
    running = Running(tmp_path)
    looks = threading.Semaphore(0)
    tasks = Tasks(Rounds(), lambda: None, lambda: False, lambda: None, looks.release)
    schedule = Schedule(tasks, running.live, SystemClock())
    schedule.start()
    try:
        assert all(looks.acquire(timeout=WAIT_S) for _ in range(2))
    finally:
        schedule.stop(WAIT_S)
