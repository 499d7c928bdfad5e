"""The server's log: lines on stderr, for the service manager to keep, of gunicorn as well.

    text   2026-01-31T08:15:00.123Z error carrel.cloud request failed request=0f3c…
    json   {"at": "2026-01-31T08:15:00.123Z", "level": "error", "logger": "carrel.cloud", "message": "request failed", "request": "0f3c…"}

A line about a request carries its id. Names, answers, tokens and bodies are in none, whatever fails: of an unexpected error there are its kind and the
way there, for PostgreSQL's own words quote the values that it refused.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

from domain.errors import CarrelError

log = logging.getLogger("carrel.cloud")

_FIELDS = "carrel_fields"
# An error that was raised from an error and so on.
CAUSES_MAX = 10


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """The `extra` of a log call: scalar values by name."""
    return {_FIELDS: values}


class Format(logging.Formatter):
    """Lines as text or, with `as_json`, one JSON object each."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        said = {"at": _utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        values = getattr(record, _FIELDS, {})
        if self._as_json:
            return json.dumps({**said, **values, **({"traceback": way_to(error)} if error else {})}, ensure_ascii=False, default=str)
        pairs = "".join(f" {name}={json.dumps(value, default=str)}" for name, value in values.items())
        line = " ".join(said.values()).replace("\r", "\\r").replace("\n", "\\n") + pairs
        return f"{line}\n{way_to(error)}" if error else line


def start(level: str, format_: str) -> None:
    """Sends the log of this process to stderr: Carrel's own from `level`, of libraries what is a warning. `format_` is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Format(as_json=format_ == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("carrel", "cloud_api"):
        logging.getLogger(name).setLevel(level.upper())


def tell_crashes() -> None:
    """Has this process tell of errors that nobody caught as it tells of all others: without the message that Python would print, which may quote values.

    Whoever has put something of its own in the place of Python's ways keeps it.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _ended
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_ended
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _dropped


def _ended(kind: type[BaseException], error: BaseException, way: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, way)
    else:
        log.critical("this process ends by an error", exc_info=(kind, error, way))


def _thread_ended(crashed: threading.ExceptHookArgs) -> None:
    if crashed.exc_value is not None and not isinstance(crashed.exc_value, SystemExit):
        log.critical("a thread ended by an error", exc_info=(crashed.exc_type, crashed.exc_value, crashed.exc_traceback))


def _dropped(error: sys.UnraisableHookArgs) -> None:
    if error.exc_value is not None:
        log.error("an error that nobody can catch", exc_info=(error.exc_type, error.exc_value, error.exc_traceback))


def way_to(error: BaseException) -> str:
    """Frames and kinds of an error and of what caused it, the latest first; no message that may quote a value."""
    parts = list[str]()
    at: BaseException | None = error
    while at is not None and len(parts) < CAUSES_MAX:
        parts.append(f"{_kind(at)}\n{''.join(traceback.format_tb(at.__traceback__))}".rstrip())
        at = at.__cause__ or at.__context__
    return "Traceback: " + "\ncaused by ".join(parts)


def _kind(error: BaseException) -> str:
    """`OSError 28`, `psycopg2.errors.UniqueViolation 23505`: what says nothing of values. Our own messages never do."""
    what = error.message if isinstance(error, CarrelError) else getattr(error, "pgcode", None) or getattr(error, "errno", None)
    module = type(error).__module__
    name = type(error).__qualname__ if module == "builtins" else f"{module}.{type(error).__qualname__}"
    return name if what is None else f"{name} {what}"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
