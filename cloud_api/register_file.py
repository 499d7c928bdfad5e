"""Registers: small files of JSON lines outside the database, for what no restored backup may undo. Ids and times, never a name or a secret.

A register belongs to whom its folder belongs to, and is read by no other account. It is replaced as a whole, on the disk before it takes its name; whoever
adds to it waits for whoever else does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from domain.errors import OperatorError
from migrations.lock import take_flock
from migrations.private_files import MODE, create_private, to_disk

PARTIAL = ".partial"
LOCK = ".lock"
# Far more than a district's schools do in a hundred years.
BYTES_MAX = 64 * 1024 * 1024
# Whoever adds to a register is done within a second; a stopped program holds its lock until somebody ends it.
WAIT_MAX_S = 20.0

Entry = TypeVar("Entry", bound=msgspec.Struct)


def read(path: Path, kind: type[Entry], name: str, is_sound: Callable[[Entry], bool]) -> list[Entry]:
    """The entries of the register `name`; none where there is no file. Raises OperatorError for one that cannot be read: nothing may be passed over."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OperatorError(f"The {name} {path} cannot be read: {error.strerror}.") from error
    try:
        found = [msgspec.json.decode(line, type=kind) for line in data.splitlines() if line]
    except msgspec.MsgspecError as error:
        raise OperatorError(f"The {name} {path} is damaged.") from error
    if len(data) > BYTES_MAX or not all(map(is_sound, found)):
        raise OperatorError(f"The {name} {path} is damaged.")
    return found


def update(path: Path, name: str, change: Callable[[], Sequence[Entry] | None]) -> None:
    """Has the register hold what `change` returns, which is called when nobody else is at it; None leaves it as it is. Raises OperatorError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path):
            if (entries := change()) is not None:
                _replace(path, entries)
    except OSError as error:
        raise OperatorError(f"The {name} {path} cannot be written: {error.strerror}.") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Until the block ends nobody else changes the register."""
    lock = path.with_name(path.name + LOCK)
    try:
        descriptor = create_private(lock, path)
    except FileExistsError:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        if not take_flock(descriptor, WAIT_MAX_S):
            raise OperatorError(f"Another program has been at {path} for {WAIT_MAX_S:g} s: let it finish, then try again.")
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, entries: Sequence[msgspec.Struct]) -> None:
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(create_private(partial, path), "wb") as file:
            file.writelines(msgspec.json.encode(entry) + b"\n" for entry in entries)
        to_disk(partial)
        partial.rename(path)
        to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)
