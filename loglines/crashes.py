"""Errors that nobody caught, told as all others are: without the message that Python would print, which may quote values."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType


def tell_crashes(log: logging.Logger) -> None:
    """Has this process tell of them in `log`. Whoever has put something of its own in the place of Python's ways keeps it."""

    def ended(kind: type[BaseException], error: BaseException, way: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, way)
        else:
            log.critical("this process ends by an error", exc_info=(kind, error, way))

    def thread_ended(crashed: threading.ExceptHookArgs) -> None:
        if crashed.exc_value is not None and not isinstance(crashed.exc_value, SystemExit):
            log.critical("a thread ended by an error", exc_info=(crashed.exc_type, crashed.exc_value, crashed.exc_traceback))

    def dropped(error: sys.UnraisableHookArgs) -> None:
        if error.exc_value is not None:
            log.error("an error that nobody can catch", exc_info=(error.exc_type, error.exc_value, error.exc_traceback))

    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = ended
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = dropped
