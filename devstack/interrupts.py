"""The signals that end a command: the first interrupts whatever is under way, and nothing interrupts the tidying up after it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, `kill`, and the closing of the terminal's window.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first of SIGNALS raises KeyboardInterrupt; later ones are left unanswered, because what follows is bounded anyway.

    Handlers that do nothing, rather than SIG_IGN: programs started while tidying up must not inherit it.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in SIGNALS:
            signal.signal(number, lambda _number, _frame: None)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
