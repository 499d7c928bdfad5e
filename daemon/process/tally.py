"""What this process has done since it started, counted for /metrics: sync rounds, and requests to the localhost API."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Rounds:
    """Sync rounds by outcome (daemon/sync/round.py, RoundResult), how long all of them took, and what went through."""

    by_outcome: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    pushed: int = 0
    rejected: int = 0
    pulled: int = 0


@dataclass
class Requests:
    """Requests by endpoint and status, and how long those of each endpoint took. Endpoints are named as in the API's description."""

    by_status: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)


class Tally:
    """Adds up, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rounds, self._requests = Rounds(), Requests()

    def round_ended(self, outcome: str, seconds: float, pushed: int = 0, rejected: int = 0, pulled: int = 0) -> None:
        with self._lock:
            rounds = self._rounds
            rounds.by_outcome[outcome] += 1
            rounds.seconds += seconds
            rounds.pushed, rounds.rejected, rounds.pulled = rounds.pushed + pushed, rounds.rejected + rejected, rounds.pulled + pulled

    def request_answered(self, endpoint: str, status: int, seconds: float) -> None:
        with self._lock:
            self._requests.by_status[endpoint, status] += 1
            self._requests.seconds[endpoint] = self._requests.seconds.get(endpoint, 0.0) + seconds

    def rounds(self) -> Rounds:
        """A copy of the present counts."""
        with self._lock:
            rounds = self._rounds
            return Rounds(Counter(rounds.by_outcome), rounds.seconds, rounds.pushed, rounds.rejected, rounds.pulled)

    def requests(self) -> Requests:
        """A copy of the present counts."""
        with self._lock:
            return Requests(Counter(self._requests.by_status), dict(self._requests.seconds))
