"""Folders on a file system in memory, where the machine has one: what a test writes is thrown away anyhow, and a disk takes half the time of the suite."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
# With less room than this everything is written to the disk.
FREE_MIN_BYTES = 4 << 30
# What a run that was killed has left takes memory, and the next one takes it away. A younger folder may not be locked yet.
LEFT_BEHIND_MIN_AGE_S = 60.0


def has_room() -> bool:
    return MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= FREE_MIN_BYTES


@contextmanager
def memory_folder(prefix: str) -> Iterator[Path]:
    """A new folder in memory, else on the disk; removed afterwards, or by the next call after this process was killed."""
    _remove_left_behind(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if has_room() else None))
    in_use = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        if in_use is not None:
            os.close(in_use)


def _remove_left_behind(prefix: str) -> None:
    for folder in MEMORY.glob(f"{prefix}*"):
        try:
            lock = _lock(folder) if time.time() - folder.stat().st_mtime > LEFT_BEHIND_MIN_AGE_S else None
        except OSError:  # it has just been removed, or is another account's
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that keeps the folder locked until it is closed; None while another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
