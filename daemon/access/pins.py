"""Students' PINs: whether one is right is told on this device, without a network, from what cannot be turned back into the PIN.

Four digits fall to whoever can try them all, so the verifier alone must be worth nothing: it is argon2id over an HMAC whose key lies in a file
beside the database, never in it or in a copy of it (docs/security.md). Trying on the device itself is slowed by daemon/access/sign_in_tries.py. Hashes of
passwords that the school may hold never come here.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
from contextlib import suppress
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.database import DeviceDatabase
from daemon.durable_file import replace_durably
from domain.clock import Clock
from domain.errors import OperatorError, RateLimited
from domain.ids import Id

if TYPE_CHECKING:
    import argon2

KEY_FILE = "pin.key"
KEY_BYTES = 32
PIN_LENGTH_MIN = 4
PIN_LENGTH_MAX = 64
# OWASP's least for argon2id, 19 MiB and two passes: some 25 ms, and the memory is given back.
MEMORY_KIB = 19 * 1024
PASSES = 2
# One PIN is checked at a time; others wait so long, then come again.
QUEUE_MAX_S = 5.0
# Blocks from this size on are the system's again when they are freed. The number is glibc's, of malloc.h.
LARGE_BLOCK_BYTES = 1024 * 1024
_M_MMAP_THRESHOLD = -3
DAY_MS = 24 * 3_600_000


class PinState(StrEnum):
    """What there is to check a student's PIN with: `set`, `not_set`, or `expired` (it was set too long ago)."""

    SET = "set"
    NOT_SET = "not_set"
    EXPIRED = "expired"


class Pins:
    """The PINs of this device's students. Each is valid for `days` from when it was set."""

    def __init__(self, database: DeviceDatabase, state_dir: Path, clock: Clock, days: int) -> None:
        self._database, self._path, self._clock = database, state_dir / KEY_FILE, clock
        self._life_ms = days * DAY_MS
        self._one_at_a_time, self._making_key = threading.Lock(), threading.Lock()

    def set(self, student_id: Id, pin: str) -> None:
        """Makes this the student's PIN, and forgets the wrong tries at the one before. Raises OperatorError when the key cannot be stored."""
        with self._making_key:
            key = self._key() or self._new_key()
        verifier, now_ms = self._hashed(_keyed(key, student_id, pin)), self._clock.now_ms()

        def work(conn: sqlite3.Connection) -> None:
            conn.execute(
                "INSERT OR REPLACE INTO student_pins (student_id, verifier, key_id, set_at_ms) VALUES (?, ?, ?, ?)",
                (student_id, verifier, _key_id(key), now_ms),
            )
            conn.execute("DELETE FROM sign_in_tries WHERE student_id = ?", (student_id,))

        self._database.write(work)

    def state(self, student_id: Id) -> PinState:
        """Whether the student has a PIN on this device. One that was made under a lost key is none."""
        verifier = self._verifier(student_id, self._key())
        return PinState.NOT_SET if verifier is None else verifier[1]

    def is_right(self, student_id: Id | None, pin: str) -> bool:
        """Whether this is the student's PIN, and it is still valid. None stands for somebody who is not here: wrong, after the same work.

        Raises RateLimited when too many are being checked.
        """
        key = self._key() or b""
        found = self._verifier(student_id, key) if student_id is not None else None
        keyed = _keyed(key, student_id or Id(""), pin)
        if found is None:
            self._hashed(keyed)
            return False
        verifier, state = found
        return self._matches(verifier, keyed) and state is PinState.SET

    def _verifier(self, student_id: Id, key: bytes | None) -> tuple[str, PinState] | None:
        with self._database.read() as conn:
            row = conn.execute("SELECT verifier, key_id, set_at_ms FROM student_pins WHERE student_id = ?", (student_id,)).fetchone()
        if row is None or not key or row[1] != _key_id(key):
            return None
        # A clock that was put back by more than a day does not make a PIN last longer.
        age_ms = self._clock.now_ms() - row[2]
        return row[0], PinState.SET if -DAY_MS <= age_ms <= self._life_ms else PinState.EXPIRED

    def _matches(self, verifier: str, keyed: bytes) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        with _Turn(self._one_at_a_time):
            try:
                return _hasher().verify(verifier, keyed)
            except (Argon2Error, InvalidHashError):
                return False

    def _hashed(self, keyed: bytes) -> str:
        with _Turn(self._one_at_a_time):
            return _hasher().hash(keyed)

    def _key(self) -> bytes | None:
        """The device's key; None when there is none, or only a part of one."""
        try:
            with self._path.open("rb") as file:
                key = file.read(KEY_BYTES + 1)
        except OSError:
            return None
        return key if len(key) == KEY_BYTES else None

    def _new_key(self) -> bytes:
        key = secrets.token_bytes(KEY_BYTES)
        try:
            replace_durably(self._path, key)
        except OSError as error:
            raise OperatorError(f"{self._path} cannot be written: {error.strerror}.") from error
        return key


class _Turn:
    """A turn at something that is done once at a time. Raises RateLimited when it does not come within QUEUE_MAX_S."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=QUEUE_MAX_S):
            raise RateLimited("Too many are signing in at this moment.")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@cache
def _hasher() -> argon2.PasswordHasher:
    from argon2 import PasswordHasher  # here, because a daemon at rest has no use for it

    _give_memory_back()
    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)


def _give_memory_back() -> None:
    """Has the C library return large blocks to the system at once. glibc else keeps 19 MiB for each server thread that has ever checked a PIN."""
    import ctypes

    with suppress(AttributeError, OSError):  # other C libraries return them anyway
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def _keyed(key: bytes, student_id: Id, pin: str) -> bytes:
    """The PIN bound to this device and this student."""
    return hmac.new(key, f"{student_id}\0{pin}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


def _key_id(key: bytes) -> str:
    """By which key a verifier was made, without saying anything of the key."""
    return hashlib.sha256(b"carrel pin key id\0" + key).hexdigest()[:16]
