"""Keeps class figures up after pushes: a thread of the server's process that folds what has come, when no more is coming.

Nothing depends on it: whoever reads a class's figures has what is missing folded first, as far as that is quick. Several processes do no harm: each student
is counted by one at a time.
"""

from __future__ import annotations

import logging
import threading
import time

from cloud_api.analytics import storage
from cloud_api.analytics.keep_up import keep_up_school
from cloud_api.config import Figures
from cloud_api.database import CloudDatabase
from domain.errors import CarrelError

# Without a push in this process, for what came by stick or through another one.
LOOK_EVERY_S = 600.0
# While pushes go on, folding waits for their end, but no longer than for so many pauses.
PAUSES_MAX = 20

_LOG = logging.getLogger("carrel.cloud")


class Keeper:
    """`database` is the administrator's: it reaches every school. `push_came` may be called from any thread."""

    def __init__(self, database: CloudDatabase, settings: Figures) -> None:
        self._database, self._pause_s = database, settings.after_push_s
        self._narrowed = database.narrowed()
        self._pushed, self._stopping = threading.Event(), threading.Event()
        self._done: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def start(self) -> None:
        """Begins; in the process that serves, after its fork."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the step under way, which is short."""
        self._stopping.set()
        self._pushed.set()
        self._thread.join()

    def push_came(self) -> None:
        """There are new attempts."""
        self._pushed.set()

    def look(self) -> None:
        """Brings every school up to date that has changed since the last look."""
        with self._database.transaction(read_only=True) as cursor:
            heads = storage.heads(cursor)
        for school_id, head in heads.items():
            if self._stopping.is_set():
                return
            if self._done.get(school_id) != head and not keep_up_school(self._narrowed, school_id, self._stopping.is_set).behind:
                self._done[school_id] = head

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._pushed.wait(LOOK_EVERY_S):
                self._wait_for_the_end_of_pushes()
            try:
                if not self._stopping.is_set():
                    self.look()
            except CarrelError as error:  # the database is away: the next push, or the next look, tries again
                _LOG.warning("class figures were not kept up: %s", error.message)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next push tries again
                _LOG.error("class figures were not kept up", exc_info=error)

    def _wait_for_the_end_of_pushes(self) -> None:
        ends_s = time.monotonic() + PAUSES_MAX * self._pause_s
        while time.monotonic() < ends_s:
            self._pushed.clear()
            if self._stopping.is_set() or not self._pushed.wait(self._pause_s):
                return
