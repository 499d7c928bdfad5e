"""When to try again: exponential backoff with full jitter, decided by a function of what happened and the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

BASE_S = 2.0
CAP_S = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How many rounds in a row have failed, and the monotonic ms before which the next is pointless. Being offline discards nothing."""

    failures: int = 0
    until_ms: int = 0

    def after_failure(self, now_ms: int, retry_after_s: float | None, random: Callable[[], float], cap_s: float = CAP_S) -> Backoff:
        """`random` gives [0, 1). A server's Retry-After is honoured as the least wait."""
        ceiling_s = min(cap_s, BASE_S * 2 ** min(self.failures, 20))
        wait_s = max(random() * ceiling_s, retry_after_s or 0.0)
        return Backoff(self.failures + 1, now_ms + int(wait_s * 1000))

    def after_refused_turn(self, now_ms: int, retry_after_s: float, random: Callable[[], float]) -> Backoff:
        """The server works and says when it has time for this device: it is asked again then, up to a half later, however often that was so."""
        return Backoff(self.failures, now_ms + int(retry_after_s * (1 + random() / 2) * 1000))
