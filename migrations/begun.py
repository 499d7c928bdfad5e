"""The note of a begun upgrade: a file beside a device's database, from the backup until the upgrade has ended.

An upgrade of several files that is killed between two leaves a database that neither the old program nor the new one knows. The next start
goes on; if that fails, the way back leads to the backup that the first one made, and not to where the killed one stopped. The note names
that backup.

It must never lead to an old backup over newer rows. So it carries a number that every transaction of the upgrade writes into the database
(`PRAGMA user_version`): a database with another number is another one, or one of which nothing was changed, or one that was put back by
hand. And a program that finds itself
at its head does not serve before it has taken the note away (`migrations.current`).
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from domain.errors import OperatorError
from migrations.private_files import create_private, to_disk

SUFFIX, PARTIAL = ".upgrade", ".partial"
NOTE_BYTES_MAX = 4096


class Begun(NamedTuple):
    """`backup`: the name of a file beside the database; `at`: the newest migration in it; `token`: the number in the database."""

    backup: str
    at: str | None
    token: int


def note_path(database: Path) -> Path:
    """Where the note of the database at `database` lies, which must be the file itself (real_path)."""
    return database.with_name(database.name + SUFFIX)


def new_token() -> int:
    """A number that no other upgrade had: user_version is a signed 32-bit integer, 0 in every new database."""
    return 1 + secrets.randbelow(2**31 - 1)


def remember(database: Path, begun: Begun) -> None:
    """Writes the note, whole and on the disk, in the place of any other. Raises OperatorError when it cannot be written."""
    note = note_path(database)
    partial = note.with_name(note.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(create_private(partial, database), "w", encoding="utf-8") as file:
            json.dump(begun._asdict(), file)
        to_disk(partial)
        partial.rename(note)
        to_disk(note.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OperatorError(f"Cannot write {note}, so the database is not migrated: {error.strerror}.") from error


def recall(database: Path) -> Begun | None:
    """The note, None when there is none that can be read."""
    try:
        with note_path(database).open("rb") as file:
            found = json.loads(file.read(NOTE_BYTES_MAX))
        backup, at, token = found["backup"], found["at"], found["token"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(backup, str) or Path(backup).name != backup or not isinstance(token, int) or not isinstance(at, str | None):
        return None
    return Begun(backup, at, token)


def forget(database: Path) -> None:
    """Takes the note away, for good. Raises OperatorError when that is not possible: an old note must not outlive its upgrade."""
    note = note_path(database)
    try:
        note.unlink()
        to_disk(note.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(f"Cannot remove {note}: {error.strerror}. Remove it before anything else.") from error
