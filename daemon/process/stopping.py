"""How a process is told to stop, and what is left of it then."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# The exit code after a second signal.
EXIT_HURRIED = 130


@contextmanager
def stop_signals() -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits up to so many seconds for the first stop signal; the second one ends the process at once.

    A pipe rather than an Event: a handler that sets an Event while the main thread waits for it can deadlock.
    """
    came = 0
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > 1:
            os._exit(EXIT_HURRIED)
        os.write(writer, b"!")

    def wait(timeout_s: float) -> bool:
        return bool(select.select([reader], [], [], timeout_s)[0])

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def threads_left(timeout_s: float) -> list[str]:
    """The names of the threads that do not end by themselves within the time."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        thread.join(timeout_s / len(others))
    return sorted(thread.name for thread in others if thread.is_alive())
