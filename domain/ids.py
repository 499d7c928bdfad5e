"""Identifiers: UUIDv7 (RFC 9562 section 5.7), made where the row is made.

Inside Carrel an id is 32 lowercase hex digits: that is what SQLite stores, what the wire joins into one string, and what
PostgreSQL takes for a `uuid`. Only the two APIs show the dashed form (`dashed`), and both forms are accepted (`parse_id`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Callable
from typing import NewType

Id = NewType("Id", str)

_HEX32 = re.compile(r"[0-9a-f]{32}\Z")
_COUNTER_BITS = 12


class IdSource:
    """Makes UUIDv7s that sort in the order in which this process made them.

    `now_ms` gives UTC milliseconds, `random_bits(n)` n random bits; both are injected so that a simulation repeats exactly.
    The 12 bits after the time (rand_a) are a counter seeded at random each millisecond (RFC 9562 section 6.2, method 1): two
    ids of one millisecond keep their order. When the clock stands still or goes back, the last time is kept.
    """

    def __init__(self, now_ms: Callable[[], int], random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._now_ms = now_ms
        self._random_bits = random_bits
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def new(self) -> Id:
        with self._lock:
            now = self._now_ms()
            if now > self._last_ms:
                self._last_ms, self._counter = now, self._random_bits(_COUNTER_BITS - 1)
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:
                    self._last_ms, self._counter = self._last_ms + 1, 0
            ms, counter = self._last_ms, self._counter
        value = (ms & (1 << 48) - 1) << 80 | 7 << 76 | counter << 64 | 2 << 62 | self._random_bits(62)
        return Id(f"{value:032x}")


def parse_id(text: str) -> Id:
    """The internal form of a UUID written with or without dashes, in either case.

    Raises ValueError for anything else; nothing that is not 32 hex digits ever reaches a database.
    """
    plain = text.replace("-", "").lower() if len(text) in (32, 36) else ""
    if not _HEX32.match(plain):
        raise ValueError("not a UUID")
    return Id(plain)


def is_id(text: str) -> bool:
    """Whether `text` is an id in internal form."""
    return bool(_HEX32.match(text))


def dashed(id_: str) -> str:
    """The canonical written form (8-4-4-4-12) of an id in internal form."""
    return f"{id_[:8]}-{id_[8:12]}-{id_[12:16]}-{id_[16:20]}-{id_[20:]}"


def derived_id(*parts: str) -> Id:
    """An id that is the same wherever it is derived from the same parts: a UUIDv8 (RFC 9562 section 5.8) of their BLAKE2b hash."""
    digest = int.from_bytes(hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest(), "big")
    value = digest & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62
    return Id(f"{value:032x}")
