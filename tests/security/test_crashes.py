"""What kills a process, or a thread of it, is told without its message: Python's own way prints that, and a service manager keeps it as a log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CANARY = "canary-answer"
TIMEOUT_S = 60
# Fails in every way that ends up on standard error without anybody's doing: in a thread, where nobody can catch it, and for good.
CRASHING = f"""
import threading

class Dropped:
    def __del__(self):
        raise ValueError("{CANARY}")

def crash(*values, **named):
    thread = threading.Thread(target=lambda: int("{CANARY}"))
    thread.start()
    thread.join()
    Dropped()
    raise RuntimeError("{CANARY}") from KeyError("{CANARY}")
"""
DAEMON = f"{CRASHING}\nimport daemon.service\ndaemon.service.make_ready = crash\nfrom daemon.cli import main\nmain(['run'])"
SERVER = f"{CRASHING}\nimport cloud_api.commands.tidy as tidy\ntidy.tidy = crash\nfrom cloud_api.cli import main\nmain(['tidy'])"


def told_by(program: str, tmp_path: Path, **environ: str) -> str:
    command = [sys.executable, "-c", program]
    environ = os.environ | {"CARREL_DEVICE_STATE_DIR": str(tmp_path / "state"), "CARREL_DEVICE_API_PORT": "0"} | environ
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr


@pytest.mark.parametrize("program", [DAEMON, SERVER], ids=["daemon", "server"])
def test_a_crash_tells_its_kind_and_the_way_there_and_no_value(program: str, tmp_path: Path, cloud_database: str) -> None:
    told = told_by(program, tmp_path, DATABASE_URL=cloud_database)
    for sentence in ("a thread ended by an error", "an error that nobody can catch", "this process ends by an error"):
        assert sentence in told
    for kind in ("ValueError", "RuntimeError", "caused by KeyError"):
        assert kind in told
    assert CANARY not in told
