"""Calls off a COMMIT that waits too long for a synchronous standby.

PostgreSQL's own statement_timeout does not count that wait, which lasts until a standby answers or somebody cancels it: with a standby that has
stalled, one such request after the other would keep every thread of the server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2

LOOK_EVERY_S = 0.5
END_TIMEOUT_S = 5.0


class CommitWatch:
    """Watches the commits of one process, with a thread that begins with the first of them. Safe for threads; not to be used across a fork."""

    def __init__(self, wait_max_s: float) -> None:
        self._wait_max_s = wait_max_s
        self._under_way: dict[object, tuple[float, Any]] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @contextmanager
    def over(self, connection: Any) -> Iterator[None]:
        """While the block runs COMMIT. A COMMIT that is called off ends as if it had succeeded, with a warning."""
        self._start()
        key = object()
        self._under_way[key] = time.monotonic() + self._wait_max_s, connection
        try:
            yield
        finally:
            self._under_way.pop(key, None)

    def close(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(END_TIMEOUT_S)

    def _start(self) -> None:
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="commit-watch", daemon=True)
                    thread.start()
                    self._thread = thread

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            for key, (deadline_s, connection) in list(self._under_way.items()):
                # Should it end in this very moment, the next statement of its connection is cancelled instead, and its request sent again.
                if deadline_s <= now_s:
                    self._under_way.pop(key, None)
                    with suppress(psycopg2.Error):
                        connection.cancel()
