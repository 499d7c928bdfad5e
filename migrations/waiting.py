"""What takes longer than two seconds is told to whoever waits for it: one line on a terminal, a line now and then in a log."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TextIO

from domain.clock import Clock, SystemClock

# What is done sooner is not told at all.
FIRST_S = 2.0
LINE_EVERY_S = 5.0
REDRAW_EVERY_S = 0.5
STOP_S = 1.0
_ERASE = "\r\x1b[K"

# Says how far it has come: `45 %`, `120 MB`.
Tell = Callable[[str], None]


class Activity(Protocol):
    """Something that wants to know what is going on."""

    def during(self, what: str) -> AbstractContextManager[Tell]:
        """`what` is going on in the block. It may be called within another block, and then stands in its place."""


class Silence:
    """Nobody waits."""

    @contextmanager
    def during(self, what: str) -> Iterator[Tell]:
        yield lambda detail: None


SILENCE: Activity = Silence()


class Display(Protocol):
    """Where lines are shown; `every_s` is their rhythm."""

    every_s: float

    def show(self, line: str) -> None: ...

    def clear(self) -> None: ...


class Lines:
    """One line after the other, for a log or a file."""

    def __init__(self, say: Callable[[str], None], every_s: float = LINE_EVERY_S) -> None:
        self._say = say
        self.every_s = every_s

    def show(self, line: str) -> None:
        self._say(line)

    def clear(self) -> None:
        """What was said stays."""


class OneLine:
    """One line that is written anew, and gone in the end, for a terminal."""

    def __init__(self, terminal: TextIO, every_s: float = REDRAW_EVERY_S) -> None:
        self._terminal = terminal
        self.every_s = every_s

    def show(self, line: str) -> None:
        self._terminal.write(_ERASE + line[: shutil.get_terminal_size().columns - 1])  # a line that wraps could not be erased
        self._terminal.flush()

    def clear(self) -> None:
        self._terminal.write(_ERASE)
        self._terminal.flush()


def display_on(stream: TextIO) -> Display:
    """One line on a terminal, lines anywhere else."""
    return OneLine(stream) if stream.isatty() else Lines(lambda line: print(line, file=stream, flush=True))


@dataclass
class _Step:
    what: str
    since_ms: int
    next_ms: float
    detail: str = ""


class Waiting:
    """Shows what is going on while it takes longer than `first_s`; with the display None, nothing.

    The lines come from a thread, because a statement may run for minutes without giving Python a turn; it knows nothing of databases.
    To be entered first.
    """

    def __init__(self, display: Display | None, *, first_s: float = FIRST_S, clock: Clock | None = None) -> None:
        self._display = display
        self._first_s = first_s
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._steps: list[_Step] = []
        self._shown = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)

    def __enter__(self) -> Self:
        if self._display is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._display is not None:
            self._thread.join(STOP_S)

    @contextmanager
    def during(self, what: str) -> Iterator[Tell]:
        """As `Activity.during`."""
        now_ms = self._clock.monotonic_ms()
        step = _Step(what, now_ms, now_ms + self._first_s * 1000)

        def tell(detail: str) -> None:
            step.detail = detail

        with self._changed:
            self._steps.append(step)
            self._changed.notify()
        try:
            yield tell
        finally:
            with self._changed:
                self._steps.remove(step)
                self._clear()
                self._changed.notify()

    def tick(self) -> float | None:
        """Shows the line that is due, if one is. Returns the seconds until the next may be, None when nothing is going on."""
        with self._changed:
            return self._tick()

    def _tick(self) -> float | None:
        if not self._steps or self._display is None:
            return None
        step, now_ms = self._steps[-1], self._clock.monotonic_ms()
        if now_ms >= step.next_ms:
            with suppress(OSError, ValueError):  # the terminal is gone; what goes on does not end because nobody looks
                self._display.show(_line(step, now_ms))
            self._shown = True
            step.next_ms = now_ms + self._display.every_s * 1000
        return (step.next_ms - now_ms) / 1000

    def _clear(self) -> None:
        if self._shown and self._display is not None:
            with suppress(OSError, ValueError):
                self._display.clear()
        self._shown = False

    def _run(self) -> None:
        with self._changed:
            while not self._ended:
                self._changed.wait(self._tick())


def _line(step: _Step, now_ms: int) -> str:
    detail = f"{step.detail}, " if step.detail else ""
    return f"{step.what} … {detail}{(now_ms - step.since_ms) / 1000:.0f} s"


def waiting_on_stderr(*, silent: bool = False) -> Waiting:
    """For a command: on its standard error, or nowhere."""
    return Waiting(None if silent else display_on(sys.stderr))
