"""Child processes: each in a session of its own, with its output in a file, watched while it runs, and stopped within a bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from domain.errors import OperatorError

# From SIGTERM to SIGKILL. The daemon needs three seconds at most; the cloud API as long as a request in flight takes.
STOP_TIMEOUT_S = 6.0
READY_TIMEOUT_S = 60.0
# How long the system may take to end what was killed.
KILLED_MAX_S = 2.0
POLL_S = 0.05
# How much of a log is shown, and how much of its end is read for that.
TAIL_LINES = 20
TAIL_BYTES = 16 * 1024
# Where a process's modules are found, whether Carrel is installed or not.
ROOT = Path(__file__).parents[1]

# On Linux a child is told to stop when its parent has ended, also by kill -9, which leaves the parent no time to do so itself. prctl(1, …) is
# PR_SET_PDEATHSIG; it stays in force across exec.
_PR_SET_PDEATHSIG = 1
_TIED = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(signal.SIGTERM))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Child:
    """One of our programs, `python -m MODULE ARGUMENTS`; `start` may be called again after it has ended.

    `ready` says whether it answers; it is asked again and again until it does.
    """

    def __init__(self, name: str, module: Sequence[str], environ: Mapping[str, str], log: Path, ready: Callable[[], bool]) -> None:
        self.name = name
        self.log = log
        self._arguments = ["-m", *module]
        self._environ = dict(environ)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns at once. Its log begins anew; the one before it is kept as `*.log.1`."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                _command(self._arguments),
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which then stops everything in order
            )

    def await_ready(self) -> None:
        """Waits until it answers. Raises OperatorError with the end of its log when it ends instead, or takes too long."""
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            self.demand_alive()
            if time.monotonic() > deadline_s:
                raise OperatorError(f"{self.name} did not answer within {READY_TIMEOUT_S:.0f} s. {self._log_tail()}")
            time.sleep(POLL_S)

    def demand_alive(self) -> None:
        """Raises OperatorError with the end of its log when it has ended by itself."""
        if ended := self.ended():
            raise OperatorError(ended)

    def ended(self) -> str | None:
        """How it has ended by itself, with the end of its log; None while it runs."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        return f"{self.name} ended by itself ({_how(code)}). {self._log_tail()}"

    def stop(self) -> None:
        """SIGTERM, a bounded wait, then SIGKILL. Nothing happens when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the program and all that it has started. Nothing happens when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        group = self._process.pid  # not reaped yet, so the number is still its own
        os.killpg(group, signal.SIGKILL)
        self._process.wait()
        deadline_s = time.monotonic() + KILLED_MAX_S
        while _is_there(group) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)

    def _log_tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return (
            f"Its log, {self.log}, ends with:\n" + "\n".join(f"  {line}" for line in lines) if lines else f"Its log, {self.log}, is empty."
        )


def run_to_end(module: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> tuple[int, str]:
    """Runs one of our programs to its end: its exit code and what it said. Raises OperatorError when it takes too long."""
    try:
        result = subprocess.run(
            [sys.executable, "-m", *module],
            check=False,
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"`{module[0]}` did not end within {timeout_s:.0f} s.") from error
    return result.returncode, result.stdout.strip()


def _command(arguments: Sequence[str]) -> list[str]:
    if sys.platform == "linux":
        return [sys.executable, "-c", _TIED, str(os.getpid()), *arguments]
    return [sys.executable, *arguments]


def _is_there(group: int) -> bool:
    """Whether any process of the group has not ended."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # the second on macOS, of a group whose processes have all ended but were not waited for
        return False
    return True


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
