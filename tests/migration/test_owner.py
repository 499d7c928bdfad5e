"""Nobody changes the schema under a running daemon, and the daemon itself can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from daemon.upgrade import upgrade_if_needed
from domain.errors import AlreadyRunning
from migrations.current import device_is_current
from migrations.lock import owner_path, owning, without_owner
from tests.migration.conftest import Target

ROOT = Path(__file__).resolve().parents[2]


def path_of(device: Target) -> Path:
    return Path(device.url.removeprefix("sqlite:///"))


@pytest.mark.parametrize("action", ["upgrade", "downgrade", "init"])
def test_while_a_daemon_works_on_the_file_the_schema_is_not_changed(device: Target, action: str) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    device.folder.add_tables(2)
    with owning(path_of(device)):
        result = subprocess.run(
            [sys.executable, "migrate.py", "--db", "device", "--sqlite", str(path_of(device)), action]
            if action != "init"
            else [sys.executable, "init_db.py", "--db", "device", "--sqlite", str(path_of(device))],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert result.returncode == AlreadyRunning.exit_code
        assert result.stderr.startswith("carrel-migrate: A daemon works on ")
        assert device.tables() == {"table_1"}
        assert device.current() == "0001_table_1"  # looking is allowed
    assert device.upgrade() == ["0002_table_2"]


def test_the_daemon_migrates_the_file_that_it_owns(tmp_path: Path) -> None:
    path = tmp_path / "carrel.db"
    with owning(path):
        upgrade_if_needed(path)
    assert device_is_current(path)


def test_a_daemon_does_not_start_on_a_file_that_is_being_migrated(tmp_path: Path) -> None:
    path = tmp_path / "carrel.db"
    with owning(path):
        pass
    with without_owner(path), without_owner(path), pytest.raises(AlreadyRunning), owning(path):
        pass
    with owning(path), pytest.raises(AlreadyRunning), owning(path):
        pass


def test_without_a_daemon_no_lock_file_is_made_for_one(device: Target) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    assert not owner_path(path_of(device)).exists()


def test_a_running_daemon_owns_its_database_wherever_that_lies(tmp_path: Path) -> None:
    """With the real program: `carrel run` on a database outside its state folder."""
    database = tmp_path / "elsewhere" / "school.db"
    config = tmp_path / "config.toml"
    config.write_text(f'[device]\nstate_dir = "{tmp_path / "state"}"\n[device.api]\nport = 0\n')
    command = [sys.executable, "-m", "daemon.cli", "--config", str(config), "run"]
    environ = {"SQLITE_DATABASE_URL": f"sqlite:///{database}", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    daemon = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert daemon.stdout
        assert "listens" in daemon.stdout.readline()
        with pytest.raises(AlreadyRunning), without_owner(database):
            pass
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)
    with without_owner(database):
        pass
