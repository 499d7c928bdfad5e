"""Which boot of the machine this is: monotonic times can only be compared within one."""

from __future__ import annotations

import secrets
from pathlib import Path

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """32 hex digits: the kernel's boot id, or a random one for this process where the kernel gives none."""
    try:
        return _LINUX_BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        return secrets.token_hex(16)
