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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from loglines.parts import fields_of, one_line, utc, way_to

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
    return {**fields_of(record), **_bound.get()}


class TextFormat(logging.Formatter):
    """time level logger message key=value …; one line, except for the traceback of an unexpected error."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{utc(record)} {record.levelname.lower()} {_sentence(record)}"
        return f"{line}\n{_way(record)}" if record.exc_info else line


class JournalFormat(logging.Formatter):
    """The same for journald: the level as the number that it knows (`journalctl -p warning`), no time of our own, a traceback as further lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = f"{_sentence(record)}\n{_way(record)}" if record.exc_info else _sentence(record)
        prefix = f"<{_PRIORITIES.get(record.levelno, _PRIORITIES[logging.INFO])}>"
        return "\n".join(prefix + line for line in text.splitlines())


class JsonFormat(logging.Formatter):
    """One JSON object a line; a traceback is its field `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= _fields_of(record)
        if record.exc_info:
            entry["traceback"] = _way(record)
        return json.dumps(entry, ensure_ascii=False, default=str)


def start(level: str, format_: str) -> None:
    """Sends the log of this process to stderr. `level` and `format_` are values of [device.log]."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATS[format_]())
    logging.getLogger().handlers[:] = [handler]
    set_level(level)


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


def _way(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    return "" if error is None else way_to(error)


def _sentence(record: logging.LogRecord) -> str:
    pairs = "".join(f" {name}={_plain(value)}" for name, value in _fields_of(record).items())
    return f"{record.name} {one_line(record.getMessage())}{pairs}"


def _plain(value: Any) -> str:
    """A bare word where it can be read back as one, else quoted as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and not set(text) & set(' ="\\\r\n\t') else json.dumps(text)
