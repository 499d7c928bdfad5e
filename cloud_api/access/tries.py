"""How long the next try at a password or a code must wait: some are free, then the wait doubles up to a quarter of an hour.

A try is counted, and committed, before it is judged: tries at the same moment, or a process that dies in between, win nothing. It is kept in
PostgreSQL, so that all processes and machines of a server count together. Names are kept as hashes: also of people who do not exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cloud_api.database import Cursor
from cloud_api.tokens import HASH_BYTES
from domain.errors import RateLimited

FIRST_WAIT_MS = 2_000
WAIT_MAX_MS = 15 * 60_000
# Wrong tries are forgotten after so long without another.
FORGOTTEN_AFTER_MS = 24 * 3_600_000
# Beyond this many the wait has long been the longest.
FAILURES_MAX = 1_000_000
_DOUBLINGS_MAX = 20


@dataclass(frozen=True, slots=True)
class Counter:
    """What wrong tries are counted by, and how many of them cost nothing. `key` is a hash."""

    key: bytes
    free: int


def by_account(school_id: str, username: str) -> Counter:
    """Tries at one account, known by the name that was typed, whether there is somebody of that name or not."""
    return Counter(_key("account", school_id, username.strip().lower()), free=5)


def by_address(address: str) -> Counter:
    """Tries at passwords from one address. A whole school may stand behind it."""
    return Counter(_key("address", address), free=100)


def by_known_browser(proof: str) -> Counter:
    """Tries at the account that a browser has a proof for (cloud_api/access/known_browsers.py)."""
    return Counter(_key("browser", proof), free=5)


def by_device(device_id: str) -> Counter:
    """Tries at students' passwords from one device."""
    return Counter(_key("device", device_id), free=30)


def by_enroller(address: str) -> Counter:
    """Wrong enrolment codes from one address. They are judged before they are counted, and a right one is always taken: a code cannot be guessed
    (cloud_api/devices/enrolment.py). Programs that go on with a wrong one are told to wait.
    """
    return Counter(_key("enrolment", address), free=100)


# A row that nobody has touched for FORGOTTEN_AFTER_MS starts anew. A try that comes within the wait leaves the row as it is, and returns nothing.
_BEGIN = """
INSERT INTO wrong_tries AS t (key, failures, failed_at_ms) VALUES (%(key)s, 1, %(now)s)
ON CONFLICT (key) DO UPDATE
   SET failures = CASE WHEN t.failed_at_ms < %(forgotten)s THEN 1 ELSE least(t.failures + 1, %(max)s) END, failed_at_ms = %(now)s
 WHERE t.failures < %(free)s OR t.failed_at_ms > %(now)s + %(longest)s OR %(now)s >= t.failed_at_ms
       + least(%(longest)s, %(first)s::bigint << least(t.failures - %(free)s, %(doublings)s))
RETURNING failures
"""


def begin(cursor: Cursor, counter: Counter, now_ms: int) -> None:
    """Counts a try, as wrong until `forget`. Raises RateLimited with the seconds to wait; such a try is not counted and must not be judged.

    To be committed before the try is judged.
    """
    cursor.execute(
        _BEGIN,
        {
            "key": counter.key,
            "now": now_ms,
            "forgotten": now_ms - FORGOTTEN_AFTER_MS,
            "max": FAILURES_MAX,
            "free": counter.free,
            "longest": WAIT_MAX_MS,
            "first": FIRST_WAIT_MS,
            "doublings": _DOUBLINGS_MAX,
        },
    )
    if cursor.fetchone() is None:
        cursor.execute("SELECT failures, failed_at_ms FROM wrong_tries WHERE key = %s", (counter.key,))
        failures, failed_at_ms = cursor.fetchone() or (counter.free, now_ms)
        left_ms = failed_at_ms + wait_ms(failures, counter.free) - now_ms
        raise RateLimited("There were too many wrong tries: wait before the next.", max(left_ms, 1) / 1000)


def forget(cursor: Cursor, counter: Counter) -> None:
    """The try was right: those before it are forgotten."""
    cursor.execute("DELETE FROM wrong_tries WHERE key = %s", (counter.key,))


def take_back(cursor: Cursor, counter: Counter) -> None:
    """The try was right, but those of others from there were not: only this one is forgotten."""
    cursor.execute("UPDATE wrong_tries SET failures = greatest(failures - 1, 0) WHERE key = %s", (counter.key,))


def forget_old(cursor: Cursor, now_ms: int, rows_max: int) -> int:
    """Removes at most so many that count no more; returns how many."""
    cursor.execute(
        "DELETE FROM wrong_tries WHERE key IN (SELECT key FROM wrong_tries WHERE failed_at_ms < %s LIMIT %s)",
        (now_ms - FORGOTTEN_AFTER_MS, rows_max),
    )
    return cursor.rowcount


def wait_ms(failures: int, free: int) -> int:
    """How long after the latest of so many wrong tries the next may come."""
    if failures < free:
        return 0
    return min(FIRST_WAIT_MS << min(failures - free, _DOUBLINGS_MAX), WAIT_MAX_MS)


def _key(kind: str, *parts: str) -> bytes:
    text = "\0".join((kind, *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
