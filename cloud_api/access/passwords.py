"""Passwords: argon2id, a bounded number at a time. No hash ever leaves the server; devices have verifiers of their own making."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from domain.errors import InvalidInput, Problem, RateLimited

# OWASP's least for argon2id, 19 MiB and two passes (cheatsheetseries.owasp.org, "Password Storage"): some 25 ms.
MEMORY_KIB = 19 * 1024
PASSES = 2
# NIST SP 800-63B, section 5.1.1.2: at least 8 characters, at least 64 accepted, no rules about their kinds.
LENGTH_MIN = 8
LENGTH_MAX = 200
# Checked at the same time in one process, so that a crowd at the door takes neither all memory nor all processors; the others wait.
AT_ONCE_MAX = 2
QUEUE_MAX_S = 5.0

_turns = threading.BoundedSemaphore(AT_ONCE_MAX)
_hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)


def check_new_password(password: str, username: str) -> None:
    """Raises InvalidInput for a password that is too short, too long, or the user name."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise InvalidInput([Problem("$.password", "invalid_value", f"A password has {LENGTH_MIN} to {LENGTH_MAX} characters.")])
    if password.casefold() == username.casefold():
        raise InvalidInput([Problem("$.password", "invalid_value", "The password must not be the user name.")])


def hash_password(password: str) -> str:
    """What is stored of a password. Raises RateLimited when too many are being hashed at this moment."""
    with _turn():
        return _hasher.hash(_bytes(password))


def is_right(password_hash: str | None, password: str) -> bool:
    """Whether this is the password. None stands for somebody who has none or does not exist: wrong, after the same work.

    Raises RateLimited when too many are being checked at this moment.
    """
    if len(password) > LENGTH_MAX:  # nobody's; the work is done all the same
        password, password_hash = "", None
    with _turn():
        try:
            matches = _hasher.verify(password_hash or _nobodys_hash(), _bytes(password))
        except (Argon2Error, InvalidHashError):
            return False
    return matches and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other settings than today's; then it is made anew at the next sign-in."""
    return _hasher.check_needs_rehash(password_hash)


@contextmanager
def _turn() -> Iterator[None]:
    if not _turns.acquire(timeout=QUEUE_MAX_S):
        raise RateLimited("Too many are signing in at this moment.", QUEUE_MAX_S)
    try:
        yield
    finally:
        _turns.release()


@cache
def _nobodys_hash() -> str:
    return _hasher.hash(b"nobody's")


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")
