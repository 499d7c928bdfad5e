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

from loglines.parts import fields_of, one_line, utc, way_to


class Format(logging.Formatter):
    """Lines as text or, with `as_json`, one JSON object each."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        said = {"at": utc(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        values = fields_of(record)
        if self._as_json:
            return json.dumps({**said, **values, **({"traceback": way_to(error)} if error else {})}, ensure_ascii=False, default=str)
        pairs = "".join(f" {name}={json.dumps(value, default=str)}" for name, value in values.items())
        line = one_line(" ".join(said.values())) + pairs
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
