"""The processes in which the devices of a fleet live."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.processes import ROOT
from domain.errors import OperatorError

# Devices of one process, until there are so many processes.
PROCESS_DEVICES = 15
PROCESSES_MAX = 8
PROCESS_END_MAX_S = 60.0


class DeviceProcess:
    """A process of devices (fleet_devices.py). One phase is under way at a time."""

    def __init__(self, folder: Path, url: str, told: list[dict[str, str]], attempts: int) -> None:
        folder.mkdir()
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fleet_devices"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._say(json.dumps({"folder": str(folder), "url": url, "attempts": attempts, "devices": told}))

    def tell(self, phase: str) -> None:
        self._say(phase)

    def answer(self) -> dict[str, Any]:
        """What it says next; it ends every phase within a bounded time. Raises OperatorError when it has ended instead."""
        if not (line := cast("IO[str]", self._process.stdout).readline()):
            raise OperatorError(f"A process of devices ended:\n{self._log.read_text()[-2000:]}")
        return cast("dict[str, Any]", json.loads(line))

    def close(self) -> None:
        with self._process:
            cast("IO[str]", self._process.stdin).close()
            try:
                self._process.wait(PROCESS_END_MAX_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _say(self, line: str) -> None:
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(line + "\n")
        stdin.flush()


@contextmanager
def running_devices(folder: Path, url: str, told: list[dict[str, str]], attempts: int) -> Iterator[list[DeviceProcess]]:
    """All devices, open, spread over the processes in turn."""
    count = min(PROCESSES_MAX, -(-len(told) // PROCESS_DEVICES))
    with ExitStack() as parts:
        processes = []
        for number in range(count):
            process = DeviceProcess(folder / f"devices-{number}", url, told[number::count], attempts)
            parts.callback(process.close)
            processes.append(process)
        for process in processes:
            process.answer()
        yield processes
