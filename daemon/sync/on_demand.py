"""Sync rounds and verifications that somebody waits for: one at a time, shared by all who asked before it began, and never waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from domain.errors import Unavailable

T = TypeVar("T")

# How long a request waits for its round.
WAIT_MAX_S = 20.0
# Requests that may wait at the same moment; more would leave no thread for answers to questions.
WAITERS_MAX = 2


class SyncOnDemand(Generic[T]):
    """Runs `run_round` on a thread of its own. `close` ends the thread after the round under way, if any."""

    def __init__(self, run_round: Callable[[], T], wait_max_s: float = WAIT_MAX_S) -> None:
        self._run_round = run_round
        self._wait_max_s = wait_max_s
        self._thread = ThreadPoolExecutor(1, "sync-on-demand")
        self._waiting = threading.BoundedSemaphore(WAITERS_MAX)
        self._lock = threading.Lock()
        self._latest: Future[T] | None = None

    def run(self) -> T | None:
        """Has a round run that begins after this call, and waits for it. None when it is still going on, or too many wait already.

        Raises what the round raised, and Unavailable once the daemon is stopping.
        """
        round_ = self._round_to_come()
        if not self._waiting.acquire(blocking=False):
            return round_.result() if round_.done() else None
        try:
            return round_.result(self._wait_max_s)
        except TimeoutError:
            if round_.done():
                raise  # the round's own
            return None
        except CancelledError:
            raise Unavailable("The daemon is stopping.") from None
        finally:
            self._waiting.release()

    def close(self) -> None:
        """Nothing begins any more; whoever waits for a round that had not begun gets Unavailable."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _round_to_come(self) -> Future[T]:
        with self._lock:
            latest = self._latest
            if latest is not None and not latest.running() and not latest.done():
                return latest
            try:
                self._latest = self._thread.submit(self._run_round)
            except RuntimeError:  # the pool is shut down
                raise Unavailable("The daemon is stopping.") from None
            return self._latest
