"""Whether the daemon lives, and not only its process: asked over its own port, as an app would ask.

An answer of `GET /v1/health` has gone through the listener, a thread that answers requests, and the thread that writes the database. The
service manager's watchdog is fed only while such answers come, so that a daemon of which a part hangs is started anew.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable

from daemon.process.state_folder import RunningDaemon
from domain.clock import Clock

log = logging.getLogger(__name__)

EVERY_S = 5.0
# Less than a request waits for a writer that hangs (daemon/database.py, WRITE_WAIT_MAX_S): the answer that says so is no sign of life.
ANSWER_MAX_S = 20.0
# Without an answer for so long the daemon does not count as alive: two that a slow disk or a sleeping machine held up are not enough.
SILENCE_MAX_MS = 60_000
ANSWER_BYTES_MAX = 64 * 1024
STOP_S = 0.2


class Pulse:
    """Asks between `start` and `stop`, on a thread of its own."""

    def __init__(self, clock: Clock, every_s: float = EVERY_S, ask: Callable[[RunningDaemon], None] | None = None) -> None:
        self._clock, self._every_s, self._ask = clock, every_s, ask or ask_over_http
        self._stopping = threading.Event()
        self._answered_ms = 0
        self._thread: threading.Thread | None = None

    def start(self, running: RunningDaemon) -> None:
        self._answered_ms = self._clock.monotonic_ms()
        self._thread = threading.Thread(target=self._run, args=(running,), name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks no more, and waits for an answer that is due no longer than a moment."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def is_alive(self) -> bool:
        """Whether there was an answer within SILENCE_MAX_MS; also when nobody asks."""
        return self._thread is None or self._clock.monotonic_ms() - self._answered_ms < SILENCE_MAX_MS

    def _run(self, running: RunningDaemon) -> None:
        while not self._stopping.wait(self._every_s):
            try:
                self._ask(running)
            except (OSError, http.client.HTTPException) as error:
                log.warning("the daemon did not answer itself: %s", type(error).__name__)
            else:
                self._answered_ms = self._clock.monotonic_ms()


def ask_over_http(running: RunningDaemon) -> None:
    """Has the daemon say that it is well, or full, or failing: any answer will do. Raises OSError or HTTPException without one."""
    connection = http.client.HTTPConnection(running.host, running.port, timeout=ANSWER_MAX_S)
    try:
        connection.request("GET", "/v1/health", headers={"Connection": "close"})
        connection.getresponse().read(ANSWER_BYTES_MAX)
    finally:
        connection.close()
