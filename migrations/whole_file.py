"""A file that people carry away: there whole, on the disk with its name, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from domain.errors import OperatorError
from migrations.private_files import to_disk

PARTIAL = ".partial"
# What is written so is sealed; whoever carries it must be able to read it.
MODE = 0o644


def demand_free(path: Path, *, force: bool) -> None:
    """Raises OperatorError when there is a file already, unless `force` says to replace it; also for a folder that is not there."""
    if path.exists() and not force:
        raise OperatorError(f"{path} exists already; --force replaces it.")
    if not path.parent.is_dir():
        raise OperatorError(f"There is no folder {path.parent}.")


def write_whole(path: Path, data: bytes) -> None:
    """Writes or replaces the file. Raises OperatorError when that cannot be done; an older file of the name is still there then."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "wb") as file:
            file.write(data)
        to_disk(partial)
        partial.rename(path)
        to_disk(path.parent)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """The file, or its first `bytes_max` + 1 bytes, by which a reader knows that it is too large. Raises OperatorError."""
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from error
