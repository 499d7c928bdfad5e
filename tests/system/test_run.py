"""`make run` as a person uses it: start, try what it prints, stop, start again; and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from daemon.process.state_folder import find_running
from tests.support.devstack import POLL_S, ROOT, WAIT_S, Command, descendants, devstack, reachable_temporary_folder, running

# The last line of what it prints when all is up.
ALL_UP = "/v1/status\n"
ANY_PORT = {"CARREL_DEVICE_API_PORT": "0", "CARREL_CLOUD_SERVER_PORT": "0"}

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """The state folder of every start in this module: only the first makes databases."""
    with reachable_temporary_folder() as folder:
        yield folder / "state"


def start(state: Path, **settings: str) -> AbstractContextManager[Command]:
    given: dict[str, Any] = ANY_PORT | settings
    return devstack("run", folder=state.parent, CARREL_STATE_DIR=str(state), **given)


def paste(line: str) -> Any:
    """What a shell does with a curl line: the JSON answer, which must be a success."""
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=WAIT_S, check=True)
    answer = json.loads(done.stdout)
    assert done.stderr == "" and "code" not in answer, done
    return answer


def curl_lines(command: Command) -> list[str]:
    command.wait_for(ALL_UP)
    return [line for line in command.output.splitlines() if line.startswith("curl ")]


def await_synced(url: str) -> dict[str, Any]:
    deadline_s = time.monotonic() + WAIT_S
    while (status := urllib3.request("GET", f"{url}/v1/status").json())["state"] != "synced":
        assert time.monotonic() < deadline_s, status
        time.sleep(POLL_S)
    return dict(status)


def device_url(command: Command) -> str:
    command.wait_for(ALL_UP)
    [url] = re.findall(r"^  daemon +(\S+)", command.output, re.MULTILINE)
    return str(url)


def lines(text: str) -> set[str]:
    """The lines of an output, without what is different each time: ports, and how long it took."""
    return {re.sub(r":\d{4,5}\b| +\d+\.\d s$", "#", line) for line in text.splitlines()}


def said_in_the_readme() -> str:
    [block] = re.findall(r"^```\n(  PostgreSQL .*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


def teachers_sign_in(command: Command) -> int:
    """The status of signing in at the school's server as the output says."""
    [(url, username, password)] = re.findall(
        r"^  cloud API +(\S+)   the teacher's pages: (\w+), password (\S+)$", command.output, re.MULTILINE
    )
    return urllib3.request("POST", f"{url}/v1/sessions", json={"username": username, "password": password}).status


def end_sessions(session_line: str) -> None:
    """What a lesson of somebody else does, or 15 idle minutes."""
    somebody_else = re.sub('"username": "[a-z]+"', '"username": "jonas"', session_line)
    assert somebody_else != session_line
    paste(somebody_else)


def own_attempts(session_line: str) -> list[dict[str, Any]]:
    token, url = paste(session_line)["token"], shlex.split(session_line)[-1].removesuffix("/sessions")
    answer = urllib3.request("GET", f"{url}/attempts", headers={"Authorization": f"Bearer {token}"})
    return list(answer.json()["items"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_it_prints_works_and_the_next_start_finds_it_again(state: Path) -> None:
    with start(state) as command:
        session_line, attempt_line, status_line = curl_lines(command)
        assert paste(session_line)["student"]["username"]
        attempt = paste(attempt_line)
        assert attempt["created"]
        end_sessions(session_line)
        assert paste(attempt_line)["created"], "whenever it is pasted"
        assert paste(status_line)["school_name"] == "Demo School"
        assert teachers_sign_in(command) == 201
        assert lines(said_in_the_readme()) - lines(command.output) == set()
        await_synced(device_url(command))
        first_output = command.output
        assert command.signal(signal.SIGINT) == 0, command.output
        assert command.output.endswith("Stopped.\n")

    # On other ports this time: the device follows its school there.
    with start(state) as command:
        session_line, *_ = curl_lines(command)
        assert attempt["id"] in [a["id"] for a in own_attempts(session_line)]
        await_synced(device_url(command))
        assert device_url(command) not in first_output
        assert command.signal(signal.SIGTERM) == 0, command.output


@linux_only
def test_a_stop_leaves_no_process_and_no_port_behind(state: Path) -> None:
    with start(state) as command:
        url = device_url(command)
        started = descendants(command.process.pid)
        assert len(started) >= 4, "PostgreSQL, the cloud API's two processes at least, the daemon"
        assert command.signal(signal.SIGTERM) == 0, command.output
    assert not running(started)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urllib3.util.parse_url(url).port or 0)) != 0


@linux_only
def test_killed_without_a_chance_to_tidy_up_it_still_leaves_no_process_behind(state: Path) -> None:
    with start(state) as command:
        command.wait_for(ALL_UP)
        started = descendants(command.process.pid)
        command.signal(signal.SIGKILL)
        deadline_s = time.monotonic() + WAIT_S
        while running(started):
            assert time.monotonic() < deadline_s, running(started)
            time.sleep(POLL_S)


def test_a_part_that_dies_is_named_with_its_log_and_the_rest_is_stopped(state: Path) -> None:
    with start(state) as command:
        command.wait_for(ALL_UP)
        found = find_running(state / "device")
        assert found is not None
        started = descendants(command.process.pid) if sys.platform == "linux" else set()
        os.kill(found[0].pid, signal.SIGKILL)
        assert command.wait() == 1
        assert "Daemon ended by itself (signal SIGKILL)" in command.output
        assert "daemon.service started" in command.output, "the end of its log"
    assert not running(started)


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(tmp_path / "state", CARREL_CLOUD_SERVER_PORT=str(port)) as command:
            assert command.wait() == 1
    assert f"Port {port} of 127.0.0.1, for the cloud API, is taken" in command.output
    assert "CARREL_CLOUD_SERVER_PORT=" in command.output
    assert not (tmp_path / "state").exists()


def test_what_starts_is_stopped_again_when_it_is_interrupted_half_way(state: Path) -> None:
    with start(state) as command:
        command.wait_for("Cloud API")
        started = descendants(command.process.pid) if sys.platform == "linux" else set()
        assert command.signal(signal.SIGINT) in (0, 130), command.output
    assert not running(started)
