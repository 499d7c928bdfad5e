"""The daemon's log: lines on stderr, for the service manager to keep.

A line has a sentence without values and its values as fields: `log.info("round ended", extra=fields(pushed=3))`. Names, answers and tokens
are never among them. Of an unexpected error the log has its kind and the way there, but not its message, which may quote what was sent.

    text     2026-01-31T08:15:00.123Z info daemon.jobs round ended pushed=3
    json     {"at": "2026-01-31T08:15:00.123Z", "level": "info", "logger": "daemon.jobs", "message": "round ended", "pushed": 3}
    journal  <6>daemon.jobs round ended pushed=3

What belongs together carries the same id: `request` stands in every line of one request to the localhost API, `round` in every line of one sync
round, and in the server's log of that round's requests (daemon/gateway.py).
"""

from __future__ import annotations

import contextvars
import json
import logging
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any

from domain.errors import CarrelError

log = logging.getLogger(__name__)

_FIELDS = "carrel_fields"


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """The `extra` of a log call: scalar values by name."""
    return {_FIELDS: values}


ID_BYTES = 8
_bound: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("carrel_log", default=MappingProxyType({}))


def new_id() -> str:
    """An id for a request or a round: chance, which says nothing of anybody."""
    return secrets.token_hex(ID_BYTES)


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Adds fields to every line that this thread logs meanwhile."""
    token = bind(**values)
    try:
        yield
    finally:
        unbind(token)


def bind(**values: Any) -> contextvars.Token[Mapping[str, Any]]:
    """The same for where no block fits; `unbind` takes what this gives."""
    return _bound.set({**_bound.get(), **values})


def unbind(token: contextvars.Token[Mapping[str, Any]]) -> None:
    """Takes the fields of that `bind` away again, in the thread that bound them."""
    _bound.reset(token)


def handed_on() -> Callable[[], None]:
    """What a thread has to call first, so that its lines carry what those of the present thread carry now."""
    values = _bound.get()

    def take_over() -> None:
        _bound.set(values)

    return take_over


def bound_value(name: str) -> Any:
    """What this thread's lines carry under that name; None where nothing does."""
    return _bound.get().get(name)


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    return {**getattr(record, _FIELDS, {}), **_bound.get()}


class TextFormat(logging.Formatter):
    """time level logger message key=value …; one line, except for the traceback of an unexpected error."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_utc(record)} {record.levelname.lower()} {_sentence(record)}"
        return f"{line}\n{_traceback(record.exc_info)}" if record.exc_info else line


class JournalFormat(logging.Formatter):
    """The same for journald: the level as the number that it knows (`journalctl -p warning`), no time of our own, a traceback as further lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_sentence(record)}\n{_traceback(record.exc_info)}" if record.exc_info else _sentence(record)
        prefix = f"<{_PRIORITIES.get(record.levelno, _PRIORITIES[logging.INFO])}>"
        return "\n".join(prefix + line for line in text.splitlines())


class JsonFormat(logging.Formatter):
    """One JSON object a line; a traceback is its field `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": _utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= _fields_of(record)
        if record.exc_info:
            entry["traceback"] = _traceback(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def start(level: str, format_: str) -> None:
    """Sends the log of this process to stderr. `level` and `format_` are values of [device.log]."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATS[format_]())
    logging.getLogger().handlers[:] = [handler]
    set_level(level)


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


def settings_in_force() -> tuple[str, str]:
    """The level and format of `start`, for a process that writes to the same log; those of the default before it."""
    handlers = logging.getLogger().handlers
    formatter = type(handlers[0].formatter) if handlers else None
    format_ = next((name for name, kind in _FORMATS.items() if kind is formatter), "text")
    return logging.getLevelName(logging.getLogger().level).lower(), format_


_FORMATS: Mapping[str, type[logging.Formatter]] = {"text": TextFormat, "json": JsonFormat, "journal": JournalFormat}
# syslog(3)
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def set_level(level: str) -> None:
    """Changes how much is logged, while running."""
    logging.getLogger().setLevel(level.upper())


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
# An error that was raised from an error and so on.
CAUSES_MAX = 10


def _traceback(exc_info: _ExcInfo) -> str:
    """Frames and kinds of an error and of what caused it, the latest first."""
    parts, error = list[str](), exc_info[1]
    while error is not None and len(parts) < CAUSES_MAX:
        parts.append(f"{_kind(error)}\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip())
        error = error.__cause__ or error.__context__
    return "Traceback: " + "\ncaused by ".join(parts)


def _kind(error: BaseException) -> str:
    """`OSError 28`, `sqlite3.OperationalError SQLITE_FULL`: what says nothing of values. Our own messages never do."""
    what = error.message if isinstance(error, CarrelError) else getattr(error, "sqlite_errorname", None) or getattr(error, "errno", None)
    module = type(error).__module__
    name = type(error).__qualname__ if module == "builtins" else f"{module}.{type(error).__qualname__}"
    return name if what is None else f"{name} {what}"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _sentence(record: logging.LogRecord) -> str:
    pairs = "".join(f" {name}={_plain(value)}" for name, value in _fields_of(record).items())
    return f"{record.name} {_one_line(record.getMessage())}{pairs}"


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _plain(value: Any) -> str:
    """A bare word where it can be read back as one, else quoted as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and not set(text) & set(' ="\\\r\n\t') else json.dumps(text)
