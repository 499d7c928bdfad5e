"""The register of erasures: a small file outside the database, so that no restored backup brings an erased student back.

A line for each erasure, as JSON: {"school_id": …, "student_id": …, "erased_at_ms": …}. Ids and times, never a name. It belongs where the backups are:
`carrel-cloud restore` reads it, and one that lies beside the backup, and erases again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from cloud_api.database import Cursor
from domain.errors import OperatorError
from domain.ids import is_id
from migrations.private_files import MODE, to_disk

FILE_NAME = "erasures.jsonl"
PARTIAL = ".partial"
# What backups (cloud_api/backup.py) and dumps before a migration (migrations/dump.py) are called, also half-made ones.
_DUMPS = (".dump", ".dump.partial")
# Backups that are named, at most.
BACKUPS_MAX = 100
# Far more than a district erases in a hundred years.
BYTES_MAX = 64 * 1024 * 1024


class Entry(msgspec.Struct, frozen=True, order=True):
    """One erasure: ids in internal form, UTC ms."""

    school_id: str
    student_id: str
    erased_at_ms: int


def entries(cursor: Cursor) -> list[Entry]:
    """Every erasure that a database knows."""
    cursor.execute("SELECT school_id, student_id, erased_at_ms FROM erasures ORDER BY erased_at_ms, student_id")
    return [Entry(*row) for row in cursor.fetchall()]


def read(path: Path) -> list[Entry]:
    """The entries of a register; none where there is no file. Raises OperatorError for one that cannot be read: nothing may be passed over."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OperatorError(f"The register of erasures {path} cannot be read: {error.strerror}.") from error
    try:
        found = [msgspec.json.decode(line, type=Entry) for line in data.splitlines() if line]
    except msgspec.MsgspecError as error:
        raise OperatorError(f"The register of erasures {path} is damaged.") from error
    if len(data) > BYTES_MAX or not all(is_id(entry.school_id) and is_id(entry.student_id) for entry in found):
        raise OperatorError(f"The register of erasures {path} is damaged.")
    return found


def backups_beside(path: Path) -> list[Path]:
    """Dumps of the server's database in the folder of the register and in the folders there: made before now, they hold what was erased since.

    What cannot be looked into is passed over: this is advice, and backups may be anywhere.
    """
    found = list[Path]()
    for pattern in ("*", "*/*"):
        with suppress(OSError):
            found += [file for file in path.parent.glob(pattern) if file.name.endswith(_DUMPS) and file.is_file()]
    return sorted(found)[:BACKUPS_MAX]


def complete(path: Path, known: Iterable[Entry]) -> None:
    """Adds what a register lacks of `known`: afterwards the file, whole and on the disk, holds that and what it held. Raises OperatorError."""
    there = {(entry.school_id, entry.student_id): entry for entry in read(path)}
    missing = [entry for entry in known if (entry.school_id, entry.student_id) not in there]
    if not missing:
        return
    whole = sorted([*there.values(), *missing], key=lambda entry: (entry.erased_at_ms, entry.student_id))
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "wb") as file:
            file.writelines(msgspec.json.encode(entry) + b"\n" for entry in whole)
        to_disk(partial)
        partial.rename(path)
        to_disk(path.parent)
    except OSError as error:
        raise OperatorError(f"The register of erasures {path} cannot be written: {error.strerror}. Erase the student again.") from error
    finally:
        partial.unlink(missing_ok=True)
