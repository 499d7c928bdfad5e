"""A line now and then while something takes long, so that a person who waits knows that it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

# The first line comes after this time, the others in this rhythm.
FIRST_S = 2.0
EVERY_S = 5.0
STOP_S = 1.0


class Waiting:
    """Says what is going on while `on` … `off` takes longer than FIRST_S.

    The lines come from a thread, because a statement may run for minutes without giving Python a turn; it knows nothing of databases.
    """

    def __init__(self, say: Callable[[str], None], *, first_s: float = FIRST_S, every_s: float = EVERY_S) -> None:
        self._say = say
        self._first_s = first_s
        self._every_s = every_s
        self._changed = threading.Condition()
        self._what: str | None = None
        self._since_s = 0.0
        self._next_s = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._tell, name="waiting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(STOP_S)

    def on(self, what: str) -> None:
        """From now on `what` is going on, in the place of anything before."""
        with self._changed:
            self._what = what
            self._since_s = time.monotonic()
            self._next_s = self._since_s + self._first_s
            self._changed.notify()

    def off(self) -> None:
        """Nothing is going on that a person waits for."""
        with self._changed:
            self._what = None
            self._changed.notify()

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """`what` is going on in the block."""
        self.on(what)
        try:
            yield
        finally:
            self.off()

    def _tell(self) -> None:
        with self._changed:
            while not self._ended:
                if self._what is None:
                    self._changed.wait()
                elif (left_s := self._next_s - time.monotonic()) > 0:
                    self._changed.wait(left_s)
                else:
                    self._say(f"{self._what} … {time.monotonic() - self._since_s:.0f} s")
                    self._next_s += self._every_s
