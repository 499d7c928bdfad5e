"""The daemon's log: lines on stderr, for the service manager to keep.

A line has a sentence without values and its values as fields: `log.info("round ended", extra=fields(pushed=3))`. Names, answers and tokens
are never among them. Of an unexpected error the log has its kind and the way there, but not its message, which may quote what was sent.

    text   2026-01-31T08:15:00.123Z info daemon.jobs round ended pushed=3
    json   {"at": "2026-01-31T08:15:00.123Z", "level": "info", "logger": "daemon.jobs", "message": "round ended", "pushed": 3}
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from types import TracebackType
from typing import Any

from domain.errors import CarrelError

_FIELDS = "carrel_fields"


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """The `extra` of a log call: scalar values by name."""
    return {_FIELDS: values}


class TextFormat(logging.Formatter):
    """time level logger message key=value …; one line, except for the traceback of an unexpected error."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, _FIELDS, {}).items())
        line = f"{_utc(record)} {record.levelname.lower()} {record.name} {_one_line(record.getMessage())}{pairs}"
        return f"{line}\n{_traceback(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """One JSON object a line; a traceback is its field `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": _utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= getattr(record, _FIELDS, {})
        if record.exc_info:
            entry["traceback"] = _traceback(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def start(level: str, format_: str) -> None:
    """Sends the log of this process to stderr. `level` and `format_` are values of [device.log]."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat() if format_ == "json" else TextFormat())
    logging.getLogger().handlers[:] = [handler]
    set_level(level)


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


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _plain(value: Any) -> str:
    """A bare word where it can be read back as one, else quoted as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and not set(text) & set(' ="\\\r\n\t') else json.dumps(text)
