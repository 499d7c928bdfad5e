from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.backups.making import back_up
from daemon.config import load_config, prepare_folders
from daemon.process.state_folder import RunningDaemon, announce, find_running, locked, new_token, not_ours, withdraw, write_private
from daemon.readiness import make_ready
from domain.clock import SystemClock
from domain.errors import AlreadyRunning, OperatorError

RUNNING = RunningDaemon(pid=1, host="127.0.0.1", port=8750, started_at_ms=1_769_847_300_000)
_HOLD = "import sys; from pathlib import Path; from daemon.process.state_folder import locked\nwith locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_has_one_owner_and_the_other_is_told_its_pid(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(AlreadyRunning, match=f"process {owner.pid}"), locked(tmp_path):
        pass


def test_the_folder_of_a_killed_owner_is_free(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    with locked(tmp_path):
        assert (tmp_path / "daemon.lock").read_text() == str(os.getpid())


def test_a_missing_folder_is_a_sentence_for_the_operator(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="Cannot open the lock file"), locked(tmp_path / "none"):
        pass


def test_a_full_disk_does_not_keep_a_daemon_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked(tmp_path), pytest.raises(AlreadyRunning), locked(tmp_path):
        pass


def test_no_daemon_is_found_in_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert find_running(tmp_path / "file") is None


def test_the_running_daemon_is_found_with_its_token(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    announce(tmp_path, RUNNING)
    token = new_token(tmp_path)
    assert find_running(tmp_path) == (RUNNING, token)


def test_what_a_killed_daemon_left_behind_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    announce(tmp_path, RUNNING)
    new_token(tmp_path)
    with locked(tmp_path):
        pass
    assert find_running(tmp_path) is None


def test_looking_for_the_daemon_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    with locked(tmp_path):
        pass
    assert find_running(tmp_path) is None
    with locked(tmp_path):
        pass


def test_looking_again_and_again_does_not_keep_it_from_starting_either(tmp_path: Path) -> None:
    """A look holds the lock for some microseconds."""
    with locked(tmp_path):
        pass
    seen = threading.Event()

    def look() -> None:
        while not seen.is_set():
            find_running(tmp_path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            with locked(tmp_path):
                pass
    finally:
        seen.set()
        looking.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_makes_in_the_daemons_folder_belongs_to_the_daemons_account(tmp_path: Path) -> None:
    """As `sudo carrel doctor --fix` and `sudo carrel restore` do while no daemon runs."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    config = load_config(None, {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_DEVICE_BACKUP_DIR": str(folder / "kept" / "here")})
    prepare_folders(config)
    with locked(folder):
        make_ready(config)
    back_up(config, SystemClock())
    assert {path.name for path in folder.rglob("*") if path.stat().st_uid != 65534} == set()


def test_a_daemon_that_is_still_starting_is_not_found(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    assert find_running(tmp_path) is None


def test_nothing_is_left_after_withdrawing(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    announce(tmp_path, RUNNING)
    new_token(tmp_path)
    withdraw(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemon.lock"]


def test_every_file_is_for_this_account_alone_even_over_an_open_one(tmp_path: Path) -> None:
    (tmp_path / "control.token.new").touch(mode=0o666)
    (tmp_path / "control.token.new").chmod(0o666)
    announce(tmp_path, RUNNING)
    new_token(tmp_path)
    with locked(tmp_path):
        pass
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        "daemon.json": 0o600,
        "control.token": 0o600,
        "daemon.lock": 0o600,
    }


def test_tokens_differ_from_start_to_start(tmp_path: Path) -> None:
    assert new_token(tmp_path) != new_token(tmp_path)


def test_a_link_in_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "control.token.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OperatorError, match="cannot be written"):
        write_private(tmp_path / "control.token", "secret")
    assert not (tmp_path / "elsewhere").exists()


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert RunningDaemon(1, "::1", 8750, 0).url == "http://[::1]:8750"


def test_whoever_may_not_read_a_state_folder_is_told_whose_it_is(tmp_path: Path) -> None:
    assert f"sudo -u {tmp_path.owner()} --" in not_ours(tmp_path).message
    assert "the daemon's account" in not_ours(tmp_path / "gone").message
