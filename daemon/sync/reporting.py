"""What a device says of itself along with its requests, for whoever looks after it (docs/protocol.md, "Push")."""

from __future__ import annotations

import sqlite3
from functools import cache

from daemon.identity.enrolment import app_version
from daemon.queue import outbox
from domain.registry import SCHEMA_VERSION
from domain.wire import DeviceReport

_app_version = cache(app_version)


def report_after(conn: sqlite3.Connection, op_no: int, now_ms: int) -> DeviceReport:
    """The report that goes with a request after which everything up to `op_no` is at school. An age is never negative, whatever the clock did."""
    pending, oldest_ms = outbox.behind(conn, op_no)
    age_ms = None if oldest_ms is None else max(0, now_ms - oldest_ms)
    return DeviceReport(pending, age_ms, _app_version(), SCHEMA_VERSION)
