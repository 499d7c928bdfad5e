"""A running server whose configuration changes: followed at SIGHUP, without a request that is refused or broken off."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

WAIT_S = 60.0
CLIENTS = 4
NAMED = '[cloud.server]\ntrusted_hosts = ["127.0.0.1", "carrel.school.example"]\n'


class Served:
    """A server of two processes, its configuration and its log."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], port: int) -> None:
        self.config, self._log = folder / "config.toml", folder / "log"
        self._process, self.port = process, port

    def reload(self, text: str) -> None:
        self.config.write_text(text)
        self._process.send_signal(signal.SIGHUP)

    def wait_until_said(self, sentence: str) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while sentence not in self._log.read_text():
            assert time.monotonic() < deadline_s, self._log.read_text()
            time.sleep(0.05)

    def is_named(self) -> bool:
        """Whether it answers under the name that the changed configuration gives it."""
        with urllib3.HTTPConnectionPool("127.0.0.1", self.port, maxsize=1) as pool:
            headers = {"Host": "carrel.school.example", "Connection": "close"}
            return pool.request("GET", "/healthz", headers=headers, retries=False, timeout=WAIT_S).status == 200


@pytest.fixture
def served(cloud_database: str, tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "config.toml").write_text("")
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "2", "--config", str(tmp_path / "config.toml")]
    environ = os.environ | {"DATABASE_URL": cloud_database, "TMPDIR": str(tmp_path)}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], WAIT_S)[0], "the server never said where it listens"
            yield Served(tmp_path, process, int(process.stdout.readline().rpartition(":")[2]))
        finally:
            process.terminate()
            process.wait(WAIT_S)


@contextmanager
def asked_all_the_time(port: int) -> Iterator[list[str]]:
    """Clients, of which half keep their connection; every other answer than 200 is noted."""
    enough, broken = threading.Event(), list[str]()

    def ask(headers: dict[str, str]) -> None:
        with urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1) as pool:
            while not enough.is_set():
                try:
                    status = pool.request("GET", "/healthz", headers=headers, retries=False, timeout=WAIT_S).status
                except urllib3.exceptions.HTTPError as error:
                    broken.append(repr(error))
                else:
                    broken.extend([str(status)] if status != 200 else [])

    threads = [threading.Thread(target=ask, args=({"Connection": "close"} if number % 2 else {},)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield broken
    finally:
        enough.set()
        for thread in threads:
            thread.join(WAIT_S)


def test_a_changed_setting_is_followed_and_no_request_is_refused_or_broken_off_meanwhile(served: Served) -> None:
    assert not served.is_named()
    with asked_all_the_time(served.port) as broken:
        served.reload(NAMED)
        served.wait_until_said("the configuration was read again")
        deadline_s = time.monotonic() + WAIT_S
        while not all(served.is_named() for _ in range(4)):
            assert time.monotonic() < deadline_s
    assert broken == []


def test_wrong_configuration_is_reported_and_that_of_before_goes_on(served: Served) -> None:
    served.reload("[cloud.server]\nthreads = 0\n")
    served.wait_until_said("the configuration is not followed: cloud.server.threads")
    assert not served.is_named()


def test_what_needs_a_restart_is_said_and_everything_else_is_followed(served: Served) -> None:
    served.reload(NAMED + 'host = "0.0.0.0"\nport = 1\n[cloud.tls]\ncertificate = "/nowhere"\n')
    served.wait_until_said("a restart is needed")
    served.wait_until_said("the configuration was read again")
    deadline_s = time.monotonic() + WAIT_S
    while not served.is_named():
        assert time.monotonic() < deadline_s
