"""The daemon and the cloud API as processes that may die at any moment and are started again. Each is a process group of its own."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import urllib3

from daemon.control import Control
from daemon.process.state_folder import find_running
from domain.errors import CarrelError
from tests.support.devstack import descendants

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
# What a thread does to be in another network (tests/chaos/namespaces.py); nothing, as a rule.
Enter = Callable[[], AbstractContextManager[None]]
READY_MAX_S = 30.0
ASK_MAX_S = 40.0
POLL_S = 0.02
LOG_TAIL_BYTES = 4_000
# Below those that the kernel hands out to connections, so that nobody takes the port of a server that is down for a moment.
PORTS = range(20_000, 30_000)
PORT_TRIES_MAX = 50
# A child ends with the process that started it, however that ends (prctl(2), PR_SET_PDEATHSIG).
_TIED = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()


def free_port() -> int:
    """A port that nothing listens on now and that no connection will be given."""
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def wait_until(holds: Callable[[], bool], what: str, within_s: float = READY_MAX_S) -> None:
    """Returns once it holds; fails when it does not within the time."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what}: not within {within_s:.0f} s")
        time.sleep(POLL_S)


class Program:
    """`python -m MODULE ARGUMENTS`, to be started, killed and started again. Started from the main thread only: a thread's end would end it too.

    It runs in the network that `enter` leads into.
    """

    def __init__(self, module: Sequence[str], environ: Mapping[str, str], log: Path, enter: Enter = nullcontext) -> None:
        foreign = ("CARREL_", "DATABASE_URL", "SQLITE_DATABASE_URL")
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | dict(environ)
        self._module, self.enter = module, enter
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None

    def start(self, prefix: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> None:
        """Starts it and returns at once. `prefix` is a command that runs it, such as strace; its log grows."""
        with self.log.open("ab") as log, self.enter():
            self._process = subprocess.Popen(
                [*_TIED, *prefix, sys.executable, "-m", *self._module],
                cwd=ROOT,
                env=self._environ | dict(environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AssertionError("it was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the whole group, as if its machine had lost power; nothing happens when it does not run."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        self.exit_code = self._process.wait(READY_MAX_S)
        self._process = None

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL_BYTES:] if self.log.exists() else ""


class Cloud(Program):
    """`carrel-cloud serve` over a migrated database, at an address that stays the same."""

    def __init__(self, database_url: str, folder: Path, settings: Mapping[str, str] | None = None, host: str = HOST) -> None:
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        module = ["cloud_api.cli", "serve", "--no-migrate", "--host", host, "--port", str(self.port)]
        environ = {"DATABASE_URL": database_url, "CARREL_CLOUD_LOG_LEVEL": "warning", "CARREL_CLOUD_SERVER_TRUSTED_HOSTS": host}
        super().__init__(module, environ | dict(settings or {}), folder / "cloud.log")

    def workers(self) -> list[int]:
        """Everything below the process that was started: gunicorn's workers, and its master when strace stands in between."""
        return sorted(descendants(self.pid))

    def await_ready(self) -> None:
        """Until it answers; a server that could not start, because its database was down, is started again."""

        def answers() -> bool:
            if not self.alive:
                self.kill()
                self.start()
            with urllib3.PoolManager() as pool:
                try:
                    return pool.request("GET", f"{self.url}/readyz", retries=False, timeout=2.0).status == 200
                except urllib3.exceptions.HTTPError:
                    return False

        try:
            wait_until(answers, "the cloud API answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None


class Daemon(Program):
    """`carrel run` over a state folder that holds an enrolled device. It syncs eagerly, so that much happens in little time."""

    def __init__(self, state_dir: Path, database_path: Path, enter: Enter = nullcontext) -> None:
        self.state_dir, self.database_path = state_dir, database_path
        config = state_dir.parent / "config.toml"
        config.write_text(
            "[device.api]\nport = 0\n[device.sync]\npoll_s = 1.0\ndebounce_ms = 20\nbackoff_cap_s = 1.0\n[device.sign_in]\nsingle_student_without_pin = true\n"
        )
        environ = {
            "CARREL_CONFIG": str(config),
            "CARREL_DEVICE_STATE_DIR": str(state_dir),
            "CARREL_DEVICE_DATABASE_PATH": str(database_path),
        }
        super().__init__(["daemon.cli", "run"], environ, state_dir.parent / "daemon.log", enter)

    def control(self) -> Control | None:
        """The right to command the daemon that runs; None when none does."""
        found = find_running(self.state_dir)
        return Control(*found, ASK_MAX_S) if found else None

    def await_ready(self) -> None:
        """Until it answers; one that has ended by itself is started again, as a service manager would."""

        def answers() -> bool:
            if not self.alive:
                self.kill()
                self.start()
            return self.status() is not None

        try:
            wait_until(answers, "the daemon answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said()}") from None

    def status(self) -> dict[str, Any] | None:
        """GET /v1/status; None when nobody answers."""
        try:
            with self.enter():
                return control.get("/v1/status") if (control := self.control()) else None
        except CarrelError:
            return None

    def sync(self) -> None:
        """Asks for a round now and waits for it; whatever comes of it shows in the status."""
        try:
            with self.enter():
                if control := self.control():
                    control.post("/v1/sync")
        except CarrelError:
            pass
