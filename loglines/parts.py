"""The parts of a line: its fields, its time, and what is told of an error.

Of an unexpected error there are its kind and the way there, but not its message: what a database says of a value quotes it.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Mapping
from typing import Any

from domain.errors import CarrelError

_FIELDS = "carrel_fields"
# An error that was raised from an error and so on.
CAUSES_MAX = 10
# What names the reason of a foreign error without a value: SQLite's, PostgreSQL's, the system's.
_REASONS = ("sqlite_errorname", "pgcode", "errno")


def fields(**values: Any) -> dict[str, dict[str, Any]]:
    """The `extra` of a log call: scalar values by name."""
    return {_FIELDS: values}


def fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """Those values."""
    values: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return values


def utc(record: logging.LogRecord) -> str:
    """When it was logged: 2026-01-31T08:15:00.123Z."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def one_line(text: str) -> str:
    """No line of the log has more than one, whatever it quotes."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def way_to(error: BaseException) -> str:
    """Frames and kinds of an error and of what caused it, the latest first."""
    parts = list[str]()
    at: BaseException | None = error
    while at is not None and len(parts) < CAUSES_MAX:
        parts.append(f"{_kind(at)}\n{''.join(traceback.format_tb(at.__traceback__))}".rstrip())
        at = at.__cause__ or at.__context__
    return "Traceback: " + "\ncaused by ".join(parts)


def _kind(error: BaseException) -> str:
    """`OSError 28`, `sqlite3.OperationalError SQLITE_FULL`: what says nothing of values. Our own messages never do."""
    reasons = (getattr(error, name, None) for name in _REASONS)
    what = error.message if isinstance(error, CarrelError) else next((reason for reason in reasons if reason), None)
    module = type(error).__module__
    name = type(error).__qualname__ if module == "builtins" else f"{module}.{type(error).__qualname__}"
    return name if what is None else f"{name} {what}"
