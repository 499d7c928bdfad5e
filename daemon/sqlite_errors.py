"""What SQLite's errors mean here: a full disk, a busy file, a damaged one. Codes are those of sqlite.org/rescode.html."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from domain.errors import CarrelError, StorageFull, Unavailable

# Extended codes: pages that the disk does not give back; and what a quota makes of a write or of a longer -shm.
_UNREADABLE = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)
_PERHAPS_FULL = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_TRUNCATE)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_CONCERNS_ALL = (*_DAMAGED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL)
_SURROUNDINGS = (
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
)  # fmt: skip
# A file that another process holds for longer than the busy time-out is no broken file.
_TRANSLATED: dict[int, Callable[[], CarrelError]] = {
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_BUSY: lambda: Unavailable("Another program is using the database."),
}


def translate(error: BaseException) -> BaseException:
    """SQLite's errors in our words; anything else unchanged."""
    known = _TRANSLATED.get(_primary_code(error)) if isinstance(error, sqlite3.Error) else None
    if known is None:
        return error
    translated = known()
    translated.__cause__ = error
    return translated


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault: only another one can go on."""
    return _primary_code(error) in _DAMAGED or _code(error) in _UNREADABLE


def is_about_surroundings(error: sqlite3.Error) -> bool:
    """Whether the machine is at fault, its disk or its permissions, rather than the file."""
    return _primary_code(error) in _SURROUNDINGS and not is_damage(error)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program holds the file."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def is_sqlites_own(error: BaseException) -> bool:
    """Whether SQLite has said so, rather than Python of a text that is none."""
    return isinstance(error, sqlite3.Error) and _code(error) != 0


def concerns_all(error: sqlite3.Error) -> bool:
    """Whether no other request of the same transaction can come through either."""
    return _primary_code(error) in _CONCERNS_ALL


def may_be_full(error: BaseException) -> bool:
    """Whether it may be a quota, which SQLite does not tell from a broken disk."""
    return isinstance(error, sqlite3.Error) and _code(error) in _PERHAPS_FULL


def _primary_code(error: sqlite3.Error) -> int:
    return _code(error) & 0xFF


def _code(error: sqlite3.Error) -> int:
    """The extended code; 0 for an error of the Python module."""
    return getattr(error, "sqlite_errorcode", None) or 0
