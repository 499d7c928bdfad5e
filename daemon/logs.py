"""The daemon's log: lines on stderr, for the service manager to keep.

A line has a sentence without values and its values as fields: `log.info("round ended", extra=fields(pushed=3))`. Names, answers and tokens
are never among them.

    text   2026-01-31T08:15:00.123Z info daemon.jobs round ended pushed=3
    json   {"at": "2026-01-31T08:15:00.123Z", "level": "info", "logger": "daemon.jobs", "message": "round ended", "pushed": 3}
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_FIELDS = "carrel_fields"


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """The `extra` of a log call: scalar values by name."""
    return {_FIELDS: values}


class TextFormat(logging.Formatter):
    """time level logger message key=value …; one line, except for the traceback of an unexpected error."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {name}={_plain(value)}" for name, value in getattr(record, _FIELDS, {}).items())
        line = f"{_utc(record)} {record.levelname.lower()} {record.name} {_one_line(record.getMessage())}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """One JSON object a line; a traceback is its field `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"at": _utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        entry |= getattr(record, _FIELDS, {})
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
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


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _plain(value: Any) -> str:
    """A bare word where it can be read back as one, else quoted as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text and not set(text) & set(' ="\\\r\n\t') else json.dumps(text)
