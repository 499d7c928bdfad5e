"""A daemon that is handed its port, as systemd hands it over: nothing is refused while it starts, stops and starts anew."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
# Becomes the daemon, with the socket as descriptor 3 and its own process id in LISTEN_PID.
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "daemon.cli", "run"])
"""


@pytest.fixture
def port_of_systemd() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@contextmanager
def daemon(folder: Path, opened: socket.socket) -> Iterator[subprocess.Popen[str]]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CARREL_")}
    environ |= {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_DEVICE_API_PORT": str(opened.getsockname()[1])}
    command = [sys.executable, "-c", AS_SYSTEMD, str(opened.fileno())]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, pass_fds=[opened.fileno()], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def test_who_asks_before_the_daemon_runs_is_answered_and_a_stopped_daemon_leaves_nobody_waiting(
    tmp_path: Path, port_of_systemd: socket.socket
) -> None:
    host, port = port_of_systemd.getsockname()
    with closing(http.client.HTTPConnection(host, port, timeout=WAIT_S)) as early, daemon(tmp_path / "state", port_of_systemd) as process:
        early.request("GET", "/v1/health")
        assert early.getresponse().status == 200
        early.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    port_of_systemd.settimeout(0.2)
    with pytest.raises(TimeoutError):  # systemd would start the daemon anew for a connection that it had left behind itself
        port_of_systemd.accept()[0].close()
