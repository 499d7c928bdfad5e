from __future__ import annotations

import logging
from pathlib import Path

import pytest

from daemon.config import DeviceConfig, load_config
from daemon.process.live_config import LiveConfig


class Live:
    """A configuration file, the live configuration over it, and the changes that it reported."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "config.toml"
        self.environ = {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state")}
        self.changes: list[DeviceConfig] = []
        self.write("")
        self.live = LiveConfig(load_config(self.path, self.environ), self.environ, self.changes.append)

    def write(self, toml: str) -> None:
        self.path.write_text(toml)

    def check(self, toml: str) -> None:
        self.write(toml)
        self.live.check()


@pytest.fixture
def file(tmp_path: Path) -> Live:
    return Live(tmp_path)


def test_a_live_setting_takes_effect(file: Live) -> None:
    file.check("[device.sync]\npoll_s = 5\n")
    assert file.live.current.sync.poll_s == 5.0
    assert [config.sync.poll_s for config in file.changes] == [5.0]


def test_a_setting_that_is_not_live_waits_for_a_restart_and_is_named(file: Live) -> None:
    file.check('[device]\ndatabase_path = "/elsewhere"\n[device.api]\nport = 1\n[device.sync]\npoll_s = 5\n')
    assert file.live.status.needs_restart == ("device.database_path", "device.api.port")
    assert (file.live.current.api.port, file.live.current.sync.poll_s) == (8750, 5.0)
    assert file.live.current.database_path.name == "carrel.sqlite3"


def test_a_file_that_is_set_back_waits_for_nothing_any_more(file: Live) -> None:
    file.check("[device.api]\nport = 1\n")
    file.check("")
    assert file.live.status.needs_restart == ()


def test_a_file_with_a_fault_changes_nothing_and_says_so(file: Live, caplog: pytest.LogCaptureFixture) -> None:
    file.check("[device.sync]\npoll_s = 5\n")
    with caplog.at_level(logging.WARNING):
        file.check("[device.sync]\npoll_s = -1\n")
    assert file.live.current.sync.poll_s == 5.0
    assert "device.sync.poll_s: must be at least 1 s" in (file.live.status.problem or "")
    assert "the changed configuration is not used" in caplog.text


def test_a_fault_is_logged_once_however_often_the_file_is_looked_at(file: Live, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            file.check("[device\n")
    assert len(caplog.records) == 1


def test_a_file_that_is_right_again_clears_the_fault(file: Live) -> None:
    file.check("[device\n")
    file.check("[device.sync]\npoll_s = 7\n")
    assert (file.live.status.problem, file.live.current.sync.poll_s) == (None, 7.0)


def test_a_file_that_is_gone_is_a_fault_and_the_settings_stay(file: Live) -> None:
    file.check("[device.sync]\npoll_s = 5\n")
    file.path.unlink()
    file.live.check()
    assert file.live.current.sync.poll_s == 5.0
    assert "cannot be read" in (file.live.status.problem or "")


def test_a_save_without_a_change_does_nothing(file: Live) -> None:
    file.check("# a comment\n")
    file.check("# another\n")
    assert file.changes == []


def test_variables_still_win_over_the_changed_file(file: Live) -> None:
    file.environ["CARREL_DEVICE_SYNC_POLL_S"] = "9"
    file.check("[device.sync]\npoll_s = 5\n")
    assert file.live.current.sync.poll_s == 9.0


def test_without_a_file_there_is_nothing_to_read_again(tmp_path: Path) -> None:
    changes: list[DeviceConfig] = []
    live = LiveConfig(load_config(None, {"CARREL_DEVICE_STATE_DIR": str(tmp_path)}), {}, changes.append)
    live.check()
    assert (changes, live.status.problem) == ([], None)
