"""Sending again what the server may have lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from daemon.database import DeviceDatabase
from daemon.queue import outbox
from daemon.sync import offering
from daemon.sync.server_time import ServerTime


def begin_anew(database: DeviceDatabase, server_time: ServerTime, begin: Callable[[sqlite3.Connection], None]) -> None:
    """Has `begin` start a new life of the log, without what is too old to be sent again (daemon/queue/outbox.py, `forget_outdated`).

    If something is left, this device was not away for longer than that, and may offer what others wrote, too (daemon/sync/offering.py).
    """

    def begin_anew(conn: sqlite3.Connection) -> None:
        now_ms = server_time.now_ms()
        outbox.forget_outdated(conn, now_ms)
        was_awake = now_ms is not None and outbox.has_settled(conn)
        begin(conn)
        if was_awake:
            offering.plan(conn)

    database.write(begin_anew, finishing=True)
