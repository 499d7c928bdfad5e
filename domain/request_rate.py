"""How many requests a second one token may make: a device, or an app on a device, that went wild does not take the server from the others.

Each process counts for itself, in memory: what is limited is work, not tries at a secret (those are counted where secrets are judged, and stored).
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from domain.clock import Clock
from domain.errors import RateLimited

# A device that comes back from the holidays sends and fetches batch after batch: so many seconds' worth of requests may come at once.
BURST_S = 10.0
# Tokens that are remembered; the one that was seen longest ago is forgotten first, and may begin anew.
TOKENS_MAX = 10_000
_KEY_BYTES = 16


class RequestRate:
    """A bucket for each token, which fills with `per_s` requests a second. For any thread."""

    def __init__(self, clock: Clock, per_s: float) -> None:
        self._clock, self._per_s, self._burst = clock, per_s, per_s * BURST_S
        self._buckets: OrderedDict[bytes, tuple[float, int]] = OrderedDict()  # (requests left, at which monotonic ms)
        self._changing = threading.Lock()

    def take(self, header: str) -> None:
        """Counts a request with this Authorization header. Raises RateLimited with the seconds until the next may come."""
        key = hashlib.blake2b(header.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
        now_ms = self._clock.monotonic_ms()
        with self._changing:
            left, at_ms = self._buckets.pop(key, (self._burst, now_ms))
            left = min(self._burst, left + (now_ms - at_ms) / 1000 * self._per_s)
            taken = left >= 1
            self._buckets[key] = (left - 1 if taken else left, now_ms)
            if len(self._buckets) > TOKENS_MAX:
                self._buckets.popitem(last=False)
        if not taken:
            raise RateLimited("There are too many requests with this token: wait before the next.", (1 - left) / self._per_s)
