"""Which backups of a device's database there are, by their names, and which of them go.

`carrel.sqlite3.0001_initial.20260131T065900123Z.backup`: the database, the newest migration in it, the time in UTC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import OperatorError
from migrations.backup import PARTIAL, SUFFIX, backups_of

# The folder in the state folder that has them unless the configuration names another.
FOLDER_NAME = "backups"
DAY_MS = 24 * 3600 * 1000
# The folder beside the database in which a restore makes the new one; what a process that was killed has left in it is removed by the next.
WORK_SUFFIX = ".restoring"
# What a process that was killed has left is taken away after so long; a backup that is being made is younger.
PARTIAL_KEPT_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class Kept:
    """A backup that lies in a folder; `made_at_ms` is UTC ms, as its name says."""

    path: Path
    at: str
    made_at_ms: int
    size_bytes: int


def backups_in(folder: Path, database_name: str) -> list[Kept]:
    """The backups of a database in a folder, oldest first; none where there is no folder. Raises OperatorError when it cannot be read."""
    found = []
    try:
        for path in backups_of(folder / database_name) if folder.is_dir() else []:
            with suppress(FileNotFoundError, ValueError):  # let go of by whoever backs up at the same moment; a time that is none
                found.append(_kept(path, database_name))
        return found
    except OSError as error:
        raise OperatorError(f"The folder of the backups {folder} cannot be read: {error.strerror}.") from error


def newest_of(backups: Sequence[Kept], now_ms: float = math.inf) -> Kept | None:
    """The newest until `now_ms`, for a clock that ran ahead has put some into the future; None of none."""
    return max((kept for kept in backups if kept.made_at_ms <= now_ms), key=lambda kept: kept.made_at_ms, default=None)


def rotate(folder: Path, database_name: str, newest: Path, keep: int, now_ms: int, keep_days: int = 0) -> list[Path]:
    """Removes backups beyond the newest `keep`, those that are older than `keep_days` (0: of any age), and what killed runs left. The one just made stays whatever the clock says.

    One that cannot be removed costs room and nothing else. Returns those that are gone.
    """
    older = [kept for kept in backups_in(folder, database_name) if kept.path != newest]
    before_ms = now_ms - keep_days * DAY_MS if keep_days else 0
    beyond = max(0, len(older) - (keep - 1))
    gone = [kept.path for place, kept in enumerate(older) if place < beyond or kept.made_at_ms < before_ms]
    unfinished = re.compile(rf"{re.escape(database_name)}\.[^.]+\.\d{{8}}T\d{{9}}Z{re.escape(SUFFIX + PARTIAL)}(-journal)?")
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # it has been finished by now
            if unfinished.fullmatch(file.name) and file.stat().st_mtime * 1000 < now_ms - PARTIAL_KEPT_MS:
                gone.append(file)
    removed = []
    for file in gone:
        with suppress(OSError):
            file.unlink()
            removed.append(file)
    return removed


def _kept(path: Path, database_name: str) -> Kept:
    at, moment = path.name.removeprefix(f"{database_name}.").removesuffix(SUFFIX).rsplit(".", 1)
    made = datetime.strptime(moment, "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC)
    return Kept(path, at, int(made.timestamp() * 1000), path.stat().st_size)
