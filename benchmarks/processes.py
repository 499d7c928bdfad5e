"""The product's processes, `carrel run` and `carrel-cloud serve`, and what the kernel says of them."""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from daemon.control import Control, find
from domain.errors import OperatorError

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
LOG_BYTES_MAX = 64 * 1024
ROUND_TIMEOUT_S = 600.0
CONTROL_TIMEOUT_S = 60.0
# How often a state is looked at that somebody else brings about.
LOOK_EVERY_S = 0.05
_ADDRESS = re.compile(rb"http://\S+")
_PROC = Path("/proc")
_KIB_PER_MB = 1024
# clock_getcpuclockid(3): the processor time of a process, to the nanosecond, threads that have ended included.
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Running:
    """A process that listens at `url`."""

    url: str
    pid: int


@contextmanager
def serving_cloud(database_url: str, settings: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`carrel-cloud serve` over a migrated database, with its defaults but for these variables; `pid` is gunicorn's master."""
    environ = _environ({"DATABASE_URL": database_url, **(settings or {})})
    with _listening(["cloud_api.cli", "serve", "--no-migrate", "--host", HOST, "--port", "0"], environ) as running:
        yield running


@contextmanager
def running_daemon(state_dir: Path) -> Iterator[Running]:
    """`carrel run` over a state folder, on any free port, with a configuration that changes nothing else."""
    config = state_dir / "etc" / "config.toml"
    config.parent.mkdir()
    config.write_text("[device.api]\nport = 0\n")
    environ = _environ({"CARREL_CONFIG": str(config), "CARREL_DEVICE_STATE_DIR": str(state_dir)})
    with _listening(["daemon.cli", "run"], environ) as running:
        yield running


def control_of(state_dir: Path) -> Control:
    """The right to command the daemon of a state folder. Raises OperatorError when none runs."""
    if (control := find(state_dir, CONTROL_TIMEOUT_S)) is None:
        raise OperatorError("The daemon is not running.")
    return control


def await_synced(state_dir: Path) -> None:
    """Returns once the daemon says that everything is at school and here. Raises OperatorError after ROUND_TIMEOUT_S."""
    control = control_of(state_dir)
    deadline_s = time.monotonic() + ROUND_TIMEOUT_S
    while (status := control.get("/v1/status"))["state"] != "synced":
        if time.monotonic() > deadline_s:
            raise OperatorError(f"The daemon did not get through: {status['state']}, {status['message']}")
        time.sleep(LOOK_EVERY_S)


def sync_in_own_process(state_dir: Path) -> dict[str, Any]:
    """One sync round of a closed device: {"seconds", "pushed", "pulled"} (device_round.py). Raises OperatorError when it fails."""
    command = [sys.executable, "-m", "benchmarks.device_round", str(state_dir)]
    try:
        ended = subprocess.run(command, cwd=ROOT, env=_environ({}), capture_output=True, text=True, timeout=ROUND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"A sync round took longer than {ROUND_TIMEOUT_S:.0f} s.") from error
    if ended.returncode:
        raise OperatorError(f"A sync round failed:\n{ended.stderr.strip()}")
    return cast("dict[str, Any]", json.loads(ended.stdout))


def _environ(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment without the caller's own settings of Carrel: what is measured are the defaults."""
    foreign = ("CARREL_", "DATABASE_URL", "SQLITE_DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | dict(settings)


@contextmanager
def _listening(module: Sequence[str], environ: Mapping[str, str]) -> Iterator[Running]:
    """A program as long as the block lasts, from the moment when it has printed its address."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            url = _printed_address(cast("IO[bytes]", process.stdout))
            if url is None:
                log.seek(0)
                raise OperatorError(f"{module[0]} did not start:\n{log.read(LOG_BYTES_MAX).decode(errors='replace').strip()}")
            yield Running(url, process.pid)
        finally:
            _stop(process)


def _printed_address(output: IO[bytes]) -> str | None:
    """The address in the first line that a program prints; None when it ends without, or takes too long."""
    said = b""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not said.endswith(b"\n") and selector.select(max(0.0, deadline_s - time.monotonic())):
            if not (part := os.read(output.fileno(), 4096)):
                break
            said += part
    found = _ADDRESS.search(said)
    return found[0].decode() if found else None


def _stop(process: subprocess.Popen[bytes]) -> None:
    with process:  # which closes its output
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


# --- what the kernel says; Linux only


def children(pid: int) -> list[int]:
    """The processes that a process has started: of gunicorn's master, the workers."""
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def resident_mb(pid: int) -> float:
    """Resident memory now (VmRSS), MB of 1024² bytes."""
    return _status_mb(pid, "VmRSS")


def peak_resident_mb(pid: int) -> float:
    """The most resident memory that the process ever had (VmHWM), MB of 1024² bytes."""
    return _status_mb(pid, "VmHWM")


def processor_s(pid: int) -> float:
    """Processor seconds of a process since it started, all threads."""
    if not _PROC.is_dir():
        raise OperatorError("This is measured on Linux only.")
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)


def _status_mb(pid: int, name: str) -> float:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / _KIB_PER_MB
    raise OperatorError(f"The kernel does not say {name}.")


def _read(pid: int, name: str) -> str:
    try:
        return (_PROC / str(pid) / name).read_text()
    except OSError as error:
        raise OperatorError("This is measured on Linux only, and the process must be running.") from error
