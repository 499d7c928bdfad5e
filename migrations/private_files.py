"""Files beside a device's database: for its owner's eyes alone, and never another's by accident.

An administrator may migrate as root what a service account owns. What root then leaves beside the database belongs to that account, as
SQLite sees to it for its own -wal and -shm; else the daemon could not open its own lock any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

MODE, FOLDER_MODE = 0o600, 0o700


def real_path(database: Path) -> Path:
    """The file itself where `database` is a link, so that by whatever name it is called there is one lock, one note, one row of backups."""
    return Path(os.path.realpath(database))


def create_private(path: Path, database: Path) -> int:
    """A descriptor, open for writing, of a new, empty file that belongs to whom `database` belongs to, or else its folder.

    Raises OSError; FileExistsError also for a link that leads nowhere. Only a file made here is ever given away, so that no link can make
    root give away another.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    if os.geteuid() == 0:
        try:
            like = os.stat(database if database != path and database.exists() else path.parent)
            os.fchown(descriptor, like.st_uid, like.st_gid)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def make_private_folder(folder: Path) -> None:
    """Makes a folder for its owner alone, and those above it that are missing; each belongs to whom the one around it belongs to. Raises OSError."""
    for path in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        path.mkdir(mode=FOLDER_MODE if path == folder else 0o777, exist_ok=True)
        if os.geteuid() == 0:
            like = path.parent.stat()
            os.chown(path, like.st_uid, like.st_gid, follow_symlinks=False)


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder with the names in it, is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS, where fsync leaves the data in the drive's own cache
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)
