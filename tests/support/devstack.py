"""`python -m devstack …` as a person starts it: its output, the processes it starts, and folders that PostgreSQL's account can reach."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.memory import memory_folder

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
POLL_S = 0.05
# Settings of the caller that would lead a stack to other data.
FOREIGN = ("DATABASE_URL", "SQLITE_DATABASE_URL")


class Command:
    """A running `python -m devstack ARGUMENTS`."""

    def __init__(self, arguments: list[str], folder: Path, settings: Mapping[str, str], root: Path = ROOT) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("CARREL_") and name not in FOREIGN}
        self._output = folder / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "devstack", *arguments], cwd=root, env={**own, **settings}, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        """Until it has said so."""
        deadline_s = time.monotonic() + WAIT_S
        while text not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline_s, self.output
            time.sleep(POLL_S)

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    def signal(self, number: int) -> int:
        """Sends a signal; the exit code after it."""
        self.process.send_signal(number)
        return self.wait(WAIT_S)


@contextmanager
def devstack(*arguments: str, folder: Path, root: Path = ROOT, **settings: str) -> Iterator[Command]:
    """The command, run in the project at `root`, stopped at the end of the block if it still runs."""
    command = Command(list(arguments), folder, settings, root)
    try:
        yield command
    finally:
        if command.process.poll() is None:
            command.process.terminate()
            command.wait()


@contextmanager
def reachable_temporary_folder() -> Iterator[Path]:
    """A temporary folder that every account may pass through; pytest's own are closed to the account under which root runs PostgreSQL."""
    with memory_folder("carrel-test-") as folder:
        folder.chmod(0o711)
        yield folder


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have started. Linux only."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        children.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    open_ends = [pid]
    while open_ends:
        below = children.get(open_ends.pop(), [])
        found.update(below)
        open_ends.extend(below)
    return found


def running(pids: set[int]) -> set[int]:
    """Those of the processes that have not ended; one that has, and that nobody has waited for yet, has ended."""
    return {pid for pid in pids if _state(pid) not in ("Z", "X", "")}


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
