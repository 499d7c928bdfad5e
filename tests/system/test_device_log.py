"""The log of a daemon that runs, and the watch on it: real processes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.daemon_process import ROOT, WAIT_S, Carrel, ask


class Lines:
    """The lines of a stream as they come, read by a thread of its own so that waiting for one always ends."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(stream,))
        self._thread.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)

    def next(self, **wanted: Any) -> dict[str, Any]:
        """The next JSON line that has these values."""
        while True:
            line: dict[str, Any] = json.loads(self._lines.get(timeout=WAIT_S))
            if line.items() >= wanted.items():
                return line

    def join(self) -> None:
        self._thread.join(WAIT_S)


@pytest.fixture
def carrel(tmp_path: Path) -> Iterator[Carrel]:
    carrel = Carrel(tmp_path)
    yield carrel
    for process in carrel.processes:
        if process.poll() is None:
            process.kill()
        process.wait(WAIT_S)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def configure(carrel: Carrel, level: str) -> None:
    carrel.config.write_text(f'[device.api]\nport = 0\n[device.log]\nformat = "json"\nlevel = "{level}"\n')


def test_the_level_changes_while_the_daemon_runs_and_a_request_has_one_id_in_answer_and_log(carrel: Carrel) -> None:
    configure(carrel, "info")
    process = carrel.start()
    assert process.stderr is not None
    log = Lines(process.stderr)
    configure(carrel, "debug")
    log.next(message="configuration read again")
    with closing(carrel.connect()) as connection:
        connection.request("GET", "/v1/me", headers={"X-Request-Id": "lesson-7.attempt-3"})
        response = connection.getresponse()
        assert json.loads(response.read())["code"] == "not_signed_in"
        assert response.headers["X-Request-Id"] == "lesson-7.attempt-3"
        line = log.next(message="answered", request="lesson-7.attempt-3")
        assert (line["endpoint"], line["status"], line["level"]) == ("get_me", 401, "debug")
        configure(carrel, "info")
        log.next(message="configuration read again")
        ask(connection, "GET", "/v1/status")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    log.join()
    left = []
    while not log._lines.empty():
        left.append(json.loads(log._lines.get_nowait()))
    assert left[-1]["message"] == "stopped"
    assert [line for line in left if line["message"] == "answered"] == []


def test_a_watch_sees_the_daemon_come_and_go_and_ends_with_ctrl_c(carrel: Carrel) -> None:
    command = [sys.executable, "-m", "daemon.cli", "status", "--watch", "--json", "--every", "1"]
    watching = subprocess.Popen(command, cwd=ROOT, env=carrel.environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    carrel.processes.append(watching)
    assert watching.stdout is not None
    seen = Lines(watching.stdout)
    seen.next(running=False)
    daemon = carrel.start()
    assert seen.next(running=True)["state"] == "not_enrolled"
    daemon.send_signal(signal.SIGTERM)
    seen.next(running=False)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(WAIT_S) == 7
    seen.join()
    assert watching.stderr is not None
    assert watching.stderr.read() == ""


def test_a_watch_in_a_pipe_says_a_sentence_once_until_there_is_another(carrel: Carrel) -> None:
    command = [sys.executable, "-m", "daemon.cli", "status", "--watch", "--every", "1"]
    read, write = os.pipe()
    watching = subprocess.Popen(command, cwd=ROOT, env=carrel.environ, text=True, stdout=write, stderr=subprocess.PIPE)
    carrel.processes.append(watching)
    os.close(write)
    with os.fdopen(read) as output:
        assert output.readline().endswith("is not running: start it with `carrel run`.\n")
        daemon = carrel.start()
        assert output.readline().startswith("Carrel runs at http://127.0.0.1:"), "and not the sentence of before once more"
    daemon.kill()
    assert watching.wait(WAIT_S) == 1, "it ends when it has something to say and nobody reads"
    assert watching.stderr is not None
    assert watching.stderr.read() == ""
