"""What people and programs do with a running daemon: commands, a changed file, its log and the files that it keeps."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing

import pytest

from domain.errors import InvalidInput
from tests.support.daemon_process import IDS, ROOT, WAIT_S, Carrel, SilentServer, ask, attempt, carrel, school, server, stop

__all__ = ["carrel", "school", "server"]


def test_a_changed_file_takes_effect_and_what_needs_a_restart_is_named(carrel: Carrel) -> None:
    carrel.start()
    carrel.config.write_text("[device.api]\nport = 1\n[device.sync]\npoll_s = 0\n")
    _wait_for_notice(carrel, "must be at least 1 s")
    carrel.config.write_text("[device.api]\nport = 1\n[device.sync]\npoll_s = 5\n")
    _wait_for_notice(carrel, "restart is needed for changed settings: device.api.port")


def _wait_for_notice(carrel: Carrel, text: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if text in carrel.command("status").stdout:
            return
    pytest.fail(f"`carrel status` never said {text!r}")


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_a_device_is_enrolled_with_and_without_a_running_daemon(carrel: Carrel, school: str, daemon_runs: bool) -> None:
    if daemon_runs:
        carrel.start()
    refused = carrel.command("enrol", school, "wrong")
    assert refused.returncode != 0
    assert "The code is not valid." in refused.stderr
    done = carrel.command("enrol", school, "open-sesame", "--name", "laptop 12", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["school_name"] == "Hill School"
    assert stat.S_IMODE((carrel.state_dir / "device.token").stat().st_mode) == 0o600
    if not daemon_runs:
        carrel.start()
    assert "This is a device of Hill School." in carrel.command("status").stdout


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_an_address_on_which_the_token_could_be_read_is_refused(carrel: Carrel, daemon_runs: bool) -> None:
    if daemon_runs:
        carrel.start()
    result = carrel.command("enrol", "http://school.example", "open-sesame")
    assert result.returncode == InvalidInput.exit_code
    assert "The server's address must begin with https://" in result.stderr


def test_sync_by_hand_says_why_it_did_not_get_through(carrel: Carrel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    carrel.enrol(url)
    carrel.start()
    result = carrel.command("sync")
    assert result.returncode != 0
    assert "Everything stays queued here." in result.stdout, result.stderr


def test_the_log_holds_neither_names_nor_answers_nor_tokens(carrel: Carrel, server: SilentServer) -> None:
    carrel.enrol(server.url)
    carrel.environ["CARREL_DEVICE_LOG_LEVEL"] = "debug"
    process = carrel.start()
    token = carrel.sign_in()
    control = (carrel.state_dir / "control.token").read_text()
    with closing(carrel.connect()) as connection:
        ask(connection, "POST", "/v1/attempts", attempt(IDS.new()) | {"answer": "my-own-answer"}, token)
    _, log = stop(process)
    assert "daemon.service started" in log
    for secret in ("my-own-answer", "Ada", "secret-token", token, control):
        assert secret not in log


def test_what_the_daemon_keeps_is_readable_by_its_account_alone(carrel: Carrel, server: SilentServer) -> None:
    carrel.enrol(server.url)
    carrel.state_dir.chmod(0o755)
    process = carrel.start()
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", "pin", "set", "ada"],
        cwd=ROOT, env=carrel.environ, text=True, input="4711\n", capture_output=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert carrel.state_dir.stat().st_mode & 0o777 == 0o700
    secrets = ("control.token", "app.token", "device.token", "pin.key")
    assert {(carrel.state_dir / name).stat().st_mode & 0o777 for name in secrets} == {0o600}
    stop(process)
    assert [name for name in secrets if (carrel.state_dir / name).exists()] == ["device.token", "pin.key"]


def test_an_app_is_registered_listed_launched_and_removed_by_commands(carrel: Carrel, server: SilentServer) -> None:
    carrel.enrol(server.url)
    carrel.start()
    added = carrel.command("app", "add", "Fractions", "--origin", "http://localhost:3000")
    assert (added.returncode, len(added.stdout.strip())) == (0, 43), added.stderr
    with closing(carrel.connect()) as connection:
        assert ask(connection, "GET", "/v1/students", None, added.stdout.strip())[0] == 200
    assert carrel.command("app", "list").stdout == "Fractions  http://localhost:3000\n"
    assert carrel.command("app", "launch", "Fractions").stdout.startswith("http://localhost:3000/#carrel=")
    assert carrel.command("app", "launch").returncode == 1, "the account's own app has no pages"
    assert carrel.command("app", "remove", "Fractions").returncode == 0
    assert carrel.command("app", "list").stdout == "No app is registered.\n"
    assert carrel.command("pin", "set", "nobody").returncode == 1
    nameless = carrel.command("app", "add", "")
    assert (nameless.returncode, nameless.stderr) == (2, "carrel: name: This must have at least 1 character.\n")
