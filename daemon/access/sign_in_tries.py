"""How long the next try at a PIN must wait: three tries are free, then the wait doubles from ten seconds to fifteen minutes.

At four tries an hour, ten thousand PINs take a hundred days. A try is counted before it is judged, so that tries at the same moment, or a daemon that
dies in between, win nothing. Waits are measured by the monotonic clock: setting the clock of the machine shortens none, and a restart of the
machine begins the wait anew.
"""

from __future__ import annotations

import sqlite3

from daemon.database import DeviceDatabase
from daemon.identity.boot import boot_id
from domain.clock import Clock
from domain.errors import RateLimited
from domain.ids import Id

FREE_TRIES = 3
FIRST_WAIT_MS = 10_000
WAIT_MAX_MS = 15 * 60_000
# Beyond this many the wait has long been the longest.
FAILURES_MAX = 1_000
# Under which the tries at everybody who is not on this device are counted, together.
NOBODY = ""


class SignInTries:
    """Wrong tries at the PINs of this device."""

    def __init__(self, database: DeviceDatabase, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._boot_id = boot_id()

    def begin(self, student_id: Id | None) -> None:
        """Counts a try, as wrong until `succeeded`. Raises RateLimited with the seconds to wait; such a try is not counted and not judged."""
        left_ms = self._database.write(lambda conn: self._begin(conn, student_id or NOBODY, self._clock.monotonic_ms()))
        if left_ms > 0:
            raise RateLimited("There were too many wrong tries. Wait, or have a teacher set a new PIN.", left_ms / 1000)

    def succeeded(self, student_id: Id) -> None:
        """Forgets the student's wrong tries."""
        self._database.write(lambda conn: conn.execute("DELETE FROM sign_in_tries WHERE student_id = ?", (student_id,)).rowcount)

    def _begin(self, conn: sqlite3.Connection, student_id: str, now_ms: int) -> int:
        found = conn.execute(
            "SELECT failures, failed_at_mono_ms, boot_id FROM sign_in_tries WHERE student_id = ?", (student_id,)
        ).fetchone()
        failures, failed_at_ms, boot = found or (0, now_ms, self._boot_id)
        if boot != self._boot_id:
            failed_at_ms = now_ms  # of another boot's clock nothing can be told
        left_ms: int = failed_at_ms + wait_ms(failures) - now_ms
        if left_ms > 0 and boot == self._boot_id:
            return left_ms
        counted = failures if left_ms > 0 else min(failures + 1, FAILURES_MAX)
        conn.execute(
            "INSERT OR REPLACE INTO sign_in_tries (student_id, failures, failed_at_mono_ms, boot_id) VALUES (?, ?, ?, ?)",
            (student_id, counted, now_ms, self._boot_id),
        )
        return left_ms


def wait_ms(failures: int) -> int:
    """How long after the latest of so many wrong tries the next may come."""
    if failures < FREE_TRIES:
        return 0
    return min(FIRST_WAIT_MS << min(failures - FREE_TRIES, 20), WAIT_MAX_MS)
