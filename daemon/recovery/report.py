"""What is known, and said, of the last recovery (daemon/recovery/replacement.py), and the damaged files that it has set aside."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from daemon.durable_file import read_json, replace_json
from daemon.queue import outbox
from domain.errors import CarrelError, OperatorError
from migrations.private_files import real_path

SUFFIX, DAMAGED_MARK, REPLACED_MARK = ".recovery", ".damaged-", ".replaced-"
# Files that were set aside and are kept for whoever wants to look at them, the newest of them; each is as large as the database was.
KEPT_DAMAGED = 3


@dataclass(frozen=True)
class Report:
    """What happened to the database. `stage`: `restoring`, then `fetching` until everything is back from school, then `over`.

    `damaged` is the name of the file that was set aside, None when there was nothing to set aside; `recovered` counts the operations that are
    to be sent again, `unreadable` the lines of the journal that were damaged too.
    """

    reason: str
    at_ms: int
    damaged: str | None
    stage: str = "restoring"
    recovered: int = 0
    unreadable: int = 0


class ReportFile:
    """The file `<database>.recovery`."""

    def __init__(self, database: Path) -> None:
        real = real_path(database)
        self._path = real.with_name(real.name + SUFFIX)

    def read(self) -> Report | None:
        """The report; None when there is none that can be read."""
        try:
            return Report(**(read_json(self._path) or {}))
        except TypeError:
            return None

    def write(self, report: Report) -> None:
        """Replaces the report. Raises OperatorError."""
        try:
            replace_json(self._path, asdict(report))
        except OSError as error:
            raise OperatorError(f"{self._path} cannot be written: {error.strerror}.") from error


class Notices:
    """What people are told of the last recovery, until everything is back or, when something may be lost for good, until somebody has looked."""

    def __init__(self, database: Path) -> None:
        self._file, self._folder = ReportFile(database), real_path(database).parent
        self._report = self._file.read()

    def sentences(self, conn: sqlite3.Connection) -> Iterator[str]:
        """The sentences for `status`, with the connection of a read."""
        report = self._report
        if report is None:
            return
        if report.stage != "over" and _is_back(conn):
            report = self._report = replace(report, stage="over")
            with suppress(CarrelError):  # the next start finds the same
                self._file.write(report)
        kept = self._folder / report.damaged if report.damaged else None
        if report.stage != "over":
            yield _what_happened(report)
        if report.unreadable and (report.stage != "over" or (kept is not None and kept.exists())):
            advice = f" Somebody should look at {kept} and delete it then." if kept else ""
            yield f"The side file of unsent changes was damaged too: {report.unreadable} of them may be lost.{advice}"


def damaged_files(database: Path) -> list[Path]:
    """The databases that were set aside, because they were damaged or a backup took their place; oldest first."""
    real = real_path(database)
    beside = [file for mark in (DAMAGED_MARK, REPLACED_MARK) for file in real.parent.glob(f"{real.name}{mark}*")]
    found = [file for file in beside if file.is_file() and not file.name.endswith(("-wal", "-shm"))]
    return sorted(found, key=lambda file: file.name.rpartition(DAMAGED_MARK)[2].rpartition(REPLACED_MARK)[2])


def remove_damaged(path: Path) -> None:
    """Deletes a database that was set aside, with what belongs to it. Raises OSError."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_back(conn: sqlite3.Connection) -> bool:
    """Whether everything was pulled again, and nothing waits to be sent."""
    row = conn.execute("SELECT rebaselining FROM sync_progress").fetchone()
    return row is not None and row[0] == "no" and outbox.counts(conn).pending == 0


def _what_happened(report: Report) -> str:
    day = datetime.fromtimestamp(report.at_ms / 1000, UTC).date().isoformat()
    unsent = {0: "nothing was unsent", 1: "one unsent change was recovered"}
    recovered = unsent.get(report.recovered, f"{report.recovered} unsent changes were recovered")
    kept = f" The damaged file was kept as {report.damaged}." if report.damaged else ""
    return f"On {day} the database of this device was replaced or repaired, because {report.reason}: {recovered}, the rest comes from school.{kept}"
