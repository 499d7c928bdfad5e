"""How a device's database is opened for writing; the same for the daemon and for migrations.

Imports nothing, because the daemon asks for it at every start.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

# For every connection: references hold, a damaged page is noticed, and nothing stored in the file can run code or change under a map.
SAFE: Mapping[str, str | int] = {"foreign_keys": 1, "cell_size_check": 1, "trusted_schema": 0, "mmap_size": 0}


def durable(platform: str = sys.platform) -> dict[str, str | int]:
    """For a connection that writes: a commit that returned outlives a power cut.

    On macOS fsync alone leaves the data in the drive's own cache; SQLite asks for F_FULLFSYNC when these two are on
    (sqlite.org/pragma.html#pragma_fullfsync).
    """
    pragmas: dict[str, str | int] = {"synchronous": "full"}
    return pragmas | {"fullfsync": 1, "checkpoint_fullfsync": 1} if platform == "darwin" else pragmas
