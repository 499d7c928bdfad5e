"""The register of erasures: a small file outside the database, so that no restored backup brings an erased student back.

A line for each erasure, as JSON: {"school_id": …, "student_id": …, "erased_at_ms": …}. Ids and times, never a name. It belongs where the backups are:
`carrel-cloud restore` reads it, and one that lies beside the backup, and erases again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from cloud_api import register_file
from cloud_api.database import Cursor
from domain.ids import is_id

FILE_NAME = "erasures.jsonl"
NAME = "register of erasures"
# What backups (cloud_api/backups/making.py) and dumps before a migration (migrations/dump.py) are called, also half-made ones.
_DUMPS = (".dump", ".dump.partial")
# Backups that are named, at most.
BACKUPS_MAX = 100


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
    return register_file.read(path, Entry, NAME, lambda entry: is_id(entry.school_id) and is_id(entry.student_id))


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
    known = list(known)

    def change() -> Sequence[Entry] | None:
        there = {(entry.school_id, entry.student_id): entry for entry in read(path)}
        missing = [entry for entry in known if (entry.school_id, entry.student_id) not in there]
        return sorted([*there.values(), *missing], key=lambda entry: (entry.erased_at_ms, entry.student_id)) if missing else None

    register_file.update(path, NAME, change)
