"""Memory that nothing needs any more, given back to the system: what a start or a sync round took would otherwise stay with a daemon that is at
rest all day.

The C library keeps freed memory for the next who asks. It is told to let go whenever the process has become larger and then stopped growing, so a
daemon at rest is never asked, and one at work keeps what it is about to need again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

# So much larger than when memory was last given back it is worth a look, which takes about a millisecond.
GROWN_MIN_BYTES = 512 * 1024


class SpareMemory:
    """To be asked every few seconds. Does nothing where the system does not say how large a process is, or the C library cannot let go."""

    def __init__(self, let_go: Callable[[], None] | None = None, resident_bytes: Callable[[], int] | None = None) -> None:
        self._let_go = let_go or _c_library()
        self._resident_bytes = resident_bytes or _resident_bytes
        self._at_last_look = self._when_given_back = 0

    def look(self) -> None:
        """Gives back what is spare once the process has grown and come to rest."""
        now = self._resident_bytes()
        rests = now <= self._at_last_look
        if rests and now > self._when_given_back + GROWN_MIN_BYTES:
            self._let_go()
            now = self._when_given_back = self._resident_bytes()
        self._when_given_back = min(self._when_given_back, now)
        self._at_last_look = now


def _c_library() -> Callable[[], None]:
    import ctypes  # here, because only a daemon asks

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # malloc_trim(3), of the GNU C library
    return (lambda: None) if trim is None else (lambda: trim(0))


def _resident_bytes() -> int:
    """proc(5), statm; 0 where there is none."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
