"""Commands that need no running daemon; with one: tests/system/test_daemon_commands.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.commands.site import EXIT_NOT_RUNNING
from domain.errors import AlreadyRunning, InvalidConfig

HEAVY = ("cryptography", "peewee", "flask", "apscheduler", "watchdog", "cheroot", "urllib3", "rich", "psycopg2")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str | None]:
    return {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state"), "CARREL_CONFIG": None, "SQLITE_DATABASE_URL": None}


def _carrel(environ: dict[str, str | None], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


@pytest.mark.parametrize("arguments", [["--help"], ["config", "show"], ["status"]])
def test_a_quick_command_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        f"import sys; from daemon.cli import main\ntry: main({arguments!r})\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    )
    environ = {"CARREL_DEVICE_STATE_DIR": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    assert set(done.stderr.split()) & set(HEAVY) == set()


def test_the_daemon_does_without_the_library_that_seals() -> None:
    code = "import sys; import daemon.service; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])}, check=True)


def test_the_settings_are_shown_with_where_they_come_from(tmp_path: Path, environ: dict[str, str | None]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[device.sync]\npoll_s = 5\n")
    result = _carrel(environ, "--config", str(file), "config", "show")
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == f"# {file}"
    assert "device.sync.poll_s = 5.0  (file)" in result.output
    assert f'device.state_dir = "{tmp_path}/state"  (CARREL_DEVICE_STATE_DIR)' in result.output
    assert "device.api.port = 8750  (default)" in result.output


def test_the_settings_are_shown_as_json(tmp_path: Path, environ: dict[str, str | None]) -> None:
    shown = json.loads(_carrel(environ | {"SQLITE_DATABASE_URL": "sqlite:////data/a.sqlite3"}, "config", "show", "--json").output)
    assert shown["file"] is None
    assert shown["settings"]["device.database_path"] == {"value": "/data/a.sqlite3", "from": "SQLITE_DATABASE_URL"}


def test_a_bad_configuration_ends_a_command_with_all_its_problems(tmp_path: Path, environ: dict[str, str | None]) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[device.api]\nhost = "0.0.0.0"\nprot = 1\n')
    result = _carrel(environ, "--config", str(file), "config", "show")
    assert result.exit_code == InvalidConfig.exit_code
    assert "device.api.host: must be a loopback address" in result.stderr
    assert "did you mean device.api.port?" in result.stderr
    assert "Traceback" not in result.stderr


def test_status_without_a_daemon_says_how_to_start_it(environ: dict[str, str | None]) -> None:
    result = _carrel(environ, "status")
    folder = environ["CARREL_DEVICE_STATE_DIR"]
    assert (result.exit_code, result.output) == (EXIT_NOT_RUNNING, f"The daemon of {folder} is not running: start it with `carrel run`.\n")
    assert json.loads(_carrel(environ, "status", "--json").output) == {"running": False, "state_dir": folder}


def test_sync_without_a_daemon_says_so(environ: dict[str, str | None]) -> None:
    result = _carrel(environ, "sync")
    assert result.exit_code == EXIT_NOT_RUNNING
    assert "not running" in result.stderr


def test_verify_without_a_daemon_says_so(environ: dict[str, str | None]) -> None:
    result = _carrel(environ, "verify")
    assert result.exit_code == EXIT_NOT_RUNNING
    assert "not running" in result.stderr


def test_enrolling_needs_a_server_from_somewhere(environ: dict[str, str | None]) -> None:
    result = _carrel(environ, "enrol", "CODE")
    assert result.exit_code == InvalidConfig.exit_code
    assert "give the address" in result.stderr


def test_a_state_folder_in_use_is_named_with_its_process(tmp_path: Path, environ: dict[str, str | None]) -> None:
    from daemon.process.state_folder import locked

    (tmp_path / "state").mkdir()
    code = (
        f"import os, sys; os.environ['CARREL_DEVICE_STATE_DIR'] = {str(tmp_path / 'state')!r}; from daemon.cli import main; main(['run'])"
    )
    with locked(tmp_path / "state"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == AlreadyRunning.exit_code
    assert "Another carrel (process" in done.stderr


def test_status_looks_for_the_daemon_even_when_the_configuration_has_a_fault(tmp_path: Path, environ: dict[str, str | None]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[device.api]\nport = -1\n")
    result = _carrel(environ, "--config", str(file), "status")
    assert result.exit_code == EXIT_NOT_RUNNING
    assert "device.api.port" in result.stderr
