"""Room kept free for a full disk: `<database>.ballast`, a file that is deleted when nothing else can be written.

What was accepted must still go to school, and settling it needs writes of its own: marks, feed numbers, a longer -wal. So with the first
write that the disk refuses the ballast goes, and from then on only writes that bring something to an end may use what it leaves. Everything
else is refused at once, without wearing it down, until there is room for the ballast again: then the disk counts as usable once more.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from migrations.private_files import create_private, real_path

log = logging.getLogger(__name__)

SUFFIX = ".ballast"
# Settling the largest batch writes 2 MB of -wal, which is used again after each checkpoint; the database's file may grow by as much.
BALLAST_BYTES = 16 * 1024 * 1024
# Beside the ballast: a disk with less than this counts as full already at the start, when files of a few bytes must be written.
FREE_MIN_BYTES = 2 * 1024 * 1024
# How often it is tried whether there is room again.
RETRY_S = 1.0
_PROBE_BYTES = 256 * 1024
_ZEROS = bytes(1024 * 1024)


class Ballast:
    """The ballast of one database. Any thread may call; `full` says that it is gone because the disk was full."""

    def __init__(self, database: Path, size_bytes: int = BALLAST_BYTES, free_min_bytes: int = FREE_MIN_BYTES) -> None:
        real = real_path(database)
        self._path = real.with_name(real.name + SUFFIX)
        self._size_bytes, self._free_min_bytes = size_bytes, free_min_bytes
        self._trying = threading.Lock()
        self._tried_s = 0.0
        self.full = False

    def start(self) -> None:
        """Sees at the start of a daemon that there is a ballast, and room beside it for small files; else the disk counts as full.

        Without the second part a daemon could not even note where it listens. A disk that has room for the one or the other only was full before:
        what is left of the room is for what was accepted.
        """
        if self._free_bytes() < self._free_min_bytes or not (self._is_whole() or self._build()):
            self.release()

    def release(self) -> bool:
        """Deletes the ballast because the disk is full. Returns whether that has made room."""
        if not self.full:
            log.warning("the disk is full: new answers are refused until there is room, what was accepted still goes to school")
        self.full = True
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def restore(self) -> bool:
        """Whether the disk is usable again: tries to build the ballast, once every RETRY_S at most. True when it was never gone."""
        if not self.full:
            return True
        with self._trying:
            if time.monotonic() - self._tried_s < RETRY_S:
                return not self.full
            self._tried_s = time.monotonic()
            if self._build():
                self.full = False
                log.info("there is room on the disk again")
        return not self.full

    def has_room(self) -> bool:
        """Whether a little more can be written: asked by writing, because a quota does not show in the free space."""
        probe = self._path.with_name(self._path.name + ".probe")
        try:
            probe.unlink(missing_ok=True)
            file = create_private(probe, self._path)
            try:
                _reserve(file, _PROBE_BYTES)
            finally:
                os.close(file)
                probe.unlink()
        except OSError:
            return False
        return True

    def _is_whole(self) -> bool:
        try:
            found = self._path.stat()
        except OSError:
            return False
        return found.st_size == self._size_bytes

    def _build(self) -> bool:
        """Makes the ballast if it leaves enough room beside it."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        if self._free_bytes() < self._size_bytes + self._free_min_bytes:
            return False
        try:
            file = create_private(self._path, self._path)
        except OSError:
            return False
        try:
            _reserve(file, self._size_bytes)
        except OSError:
            with suppress(OSError):
                self._path.unlink()
            return False
        finally:
            os.close(file)
        return True

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._path.parent).free
        except OSError:
            return 0


def _reserve(file: int, size_bytes: int) -> None:
    """Has the file system set so much aside: a file of holes would free nothing. Raises OSError, ENOSPC above all."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
        return
    written = 0
    while written < size_bytes:
        written += os.write(file, _ZEROS[: size_bytes - written])
