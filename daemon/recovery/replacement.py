"""A database that was damaged or lost is replaced, at the start, by one that goes on where it had come to.

    look (daemon/recovery/integrity.py) → set the damaged file aside → a new one from the migrations → who this device is, from the copy beside its
    token → unsent operations, from the journal and from what can still be read → rows, to go on with until the school has sent them anew

A sound database that lacks operations of the journal was restored, or lost its -wal: it gets them back in the same way. Operations keep
their ids, so that nothing arrives twice, and are sent under a new incarnation. Everything is one transaction; a recovery that is broken off
is begun again by the next start, from the same sources. `<database>.recovery` says how far it is, and what people are to be told.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon import inbox
from daemon.durable_file import read_json
from daemon.identity.instance import IDENTITY_COPY, identity_row
from daemon.queue import outbox
from daemon.recovery.integrity import Checkup
from daemon.recovery.journal_file import Extent, KeptOperation, is_same, journal_path, read, scan
from daemon.recovery.report import DAMAGED_MARK, KEPT_DAMAGED, Report, ReportFile, damaged_files, remove_damaged
from domain.clock import Clock
from domain.errors import OperatorError
from domain.ids import IdSource, is_id
from domain.registry import TABLES, Kind
from loglines.parts import fields
from migrations.pragmas import SAFE, durable
from migrations.private_files import real_path, to_disk

if TYPE_CHECKING:
    from daemon.recovery.salvage import Damaged

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 8_000
# Without these nobody knows whose device it is.
_IDENTIFYING = ("device_id", "school_id", "school_name", "cloud_url", "server_epoch", "instance", "enrolled_at_ms")
# Columns of the table in which everything that is known of operations is gathered.
_FOUND = ", ".join(f'"{name}"' for name in KeptOperation._fields)


class Recovery:
    """Of the database at `database`, which nothing else may have open, and whose owner this process is."""

    def __init__(self, database: Path, state_dir: Path, clock: Clock, ids: IdSource) -> None:
        self._path, self._state_dir, self._clock, self._ids = real_path(database), state_dir, clock, ids
        self._report = ReportFile(database)
        self.checkup = Checkup(database, state_dir, clock)

    def set_aside_if_damaged(self) -> None:
        """Looks at the file, and gives it another name if it is damaged; to be called before the schema is migrated.

        Raises OperatorError when a person must act, Unavailable while another program holds the file.
        """
        report = self._report.read()
        reason = self.checkup.find_damage()
        if report is None or report.stage != "restoring":
            if reason is None:
                return
            log.error("the database is damaged and is replaced: %s", reason)
            report = Report(reason, self._clock.now_ms(), self._name_for_damaged())
            self._report.write(report)
        damaged = self._path.with_name(report.damaged) if report.damaged else None
        try:
            if damaged is not None and not damaged.exists():
                self._set_aside(damaged)
            elif reason is not None:  # what a recovery that was broken off has left; its sources are still there
                for suffix in ("-wal", "-shm", ""):
                    self._beside(suffix).unlink(missing_ok=True)
            for older in damaged_files(self._path)[:-KEPT_DAMAGED]:
                remove_damaged(older)
        except OSError as error:
            raise OperatorError(f"The damaged {self._path} cannot be set aside: {error.strerror}.") from error

    def restore(self) -> None:
        """Puts back what the database lacks; to be called when its schema is this version's, before anything else works with it.

        Raises OperatorError when the file cannot be written.
        """
        report = self._report.read()
        under_way = report if report and report.stage == "restoring" else None
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as conn:
                configure(conn)
                restored = self._restore(conn, under_way)
                done_with = self._journals_of(_school_id(conn))[1:]
            if restored is not None:
                level = logging.WARNING if restored.recovered else logging.INFO
                log.log(level, "what the database lacked was put back", extra=fields(to_send=restored.recovered))
                self._report.write(restored)
            for file in done_with:
                file.unlink()
        except (OSError, sqlite3.Error) as error:
            raise OperatorError(f"{self._path} cannot be restored: {error}.") from error

    def _restore(self, conn: sqlite3.Connection, report: Report | None) -> Report | None:
        damaged = self._path.with_name(report.damaged) if report and report.damaged else None
        if damaged is None or not damaged.is_file():
            return self._restore_from(conn, report, None)
        from daemon.recovery import salvage

        with salvage.opened(damaged) as source:
            return self._restore_from(conn, report, source)

    def _restore_from(self, conn: sqlite3.Connection, report: Report | None, damaged: Damaged | None) -> Report | None:
        """One transaction with everything that is missing. None, with nothing changed, when nothing is."""
        held = identity_row(conn)
        identity = held or self._remembered(damaged)
        school_id = str(identity["school_id"]) if identity else None
        self._lay_by_journal_of_another(school_id)
        journals = [(path, scan(path)) for path in self._journals_of(school_id)]
        if identity is None:
            return replace(report, stage="fetching") if report else None
        if held and report is None and all(_holds_all(conn, read(*journal)) for journal in journals):
            return None
        conn.execute("BEGIN IMMEDIATE")
        if held is None:
            insert_identity(conn, identity)
        if damaged is not None:
            _keep_rows(conn, damaged)
        bring_along(conn, journals, [damaged] if damaged else [], str(identity["device_id"]), self._clock.now_ms())
        outbox.start_incarnation(conn, self._ids.new(), resend_all=False)
        if held is None or report is not None:
            inbox.start_over(conn, server_lost_something=False)
        recovered = outbox.counts(conn).pending
        conn.execute("COMMIT")
        found = report or Report("it had lost its latest changes", self._clock.now_ms(), None)
        return replace(found, stage="fetching", recovered=recovered, unreadable=sum(extent.unreadable for _, extent in journals))

    def _remembered(self, damaged: Damaged | None) -> dict[str, Any] | None:
        """Who this device was: from the copy beside its token, else from the damaged file."""
        return whole_identity(read_json(self._state_dir / IDENTITY_COPY), damaged.identity() if damaged else None)

    def _set_aside(self, damaged: Path) -> None:
        """Renames the file and, before it, its -wal, which belongs to it; an earlier start may have come half as far."""
        for suffix in ("-wal", ""):
            if self._beside(suffix).exists():
                self._beside(suffix).rename(damaged.with_name(damaged.name + suffix))
        self._beside("-shm").unlink(missing_ok=True)
        to_disk(self._path.parent)

    def _name_for_damaged(self) -> str | None:
        """A name that sorts by time; None when there is nothing to be named."""
        moment = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return f"{self._path.name}{DAMAGED_MARK}{moment:%Y%m%dT%H%M%SZ}-{self._ids.new()[-6:]}" if self._path.exists() else None

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _lay_by_journal_of_another(self, school_id: str | None) -> None:
        """What is unsent of another school waits beside the database until this is a device of that school again; it must not get into this
        one. So it is too while nobody knows whose device this is.
        """
        path = journal_path(self._path)
        extent = scan(path)
        if extent.school_id in (None, school_id) or next(read(path, extent), None) is None:
            return
        path.rename(path.with_name(f"{path.name}.of-{extent.school_id}-{self._ids.new()}"))
        log.warning("unsent operations of another school were laid by")

    def _journals_of(self, school_id: str | None) -> list[Path]:
        """The journal, and those that were laid by for this school."""
        path = journal_path(self._path)
        return [path, *(path.parent.glob(f"{path.name}.of-{school_id}-*") if school_id else ())]


def configure(conn: sqlite3.Connection) -> None:
    """The settings with which a database is put right, before anything else is done with it."""
    pragmas = {**SAFE, "busy_timeout": BUSY_TIMEOUT_MS, "cache_size": -CACHE_KIB, "journal_mode": "wal", **durable()}
    for name, value in pragmas.items():
        conn.execute(f"PRAGMA {name} = {value}")


def _holds_all(conn: sqlite3.Connection, operations: Iterable[KeptOperation]) -> bool:
    """Whether each of the operations is in its place."""
    query = "SELECT 1 FROM sync_operations WHERE op_no = ? AND op_id = ?"
    return all(conn.execute(query, (operation.op_no, operation.op_id)).fetchone() for operation in operations)


def bring_along(
    conn: sqlite3.Connection, journals: Iterable[tuple[Path, Extent]], files: Sequence[Damaged], device_id: str, now_ms: int
) -> None:
    """Puts every operation that these journals and files hold and the database lacks at the end of its log, with the rows of unsent ones.

    In the caller's transaction, who begins a new incarnation in it, for their places are others. What was found stays, until the connection
    is closed, in the table `temp.found`.
    """
    from daemon.recovery.replay import replay  # here, like `salvage`, because nearly every start does without

    _gather(conn, journals, files)
    replay(conn, _missing(conn), device_id, now_ms)


def whole_identity(*known: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The first of these rows of `identity` that says whose device this is."""
    return next((dict(row) for row in known if row and all(row.get(name) for name in _IDENTIFYING)), None)


def _gather(conn: sqlite3.Connection, journals: Iterable[tuple[Path, Extent]], files: Sequence[Damaged]) -> None:
    """Everything that is known of operations, each once; what the journal says of one counts, for it has checksums."""
    conn.execute(f"CREATE TEMP TABLE found ({_FOUND}, PRIMARY KEY (op_id)) WITHOUT ROWID")
    # One that was rejected and is to be sent again stands twice in a log, in two places.
    replaced = ", ".join(f"{name} = excluded.{name}" for name in _FOUND.split(", "))
    insert = (
        f"INSERT INTO found VALUES ({', '.join('?' * len(KeptOperation._fields))})"
        f" ON CONFLICT (op_id) DO UPDATE SET {replaced} WHERE excluded.state = 'pending' AND found.state <> 'pending'"
    )
    for path, extent in journals:
        conn.executemany(insert, read(path, extent))
    conn.execute("CREATE INDEX temp.found_places ON found (op_no)")
    for operation in (operation for file in files for operation in file.operations()):
        journalled = map(KeptOperation._make, conn.execute("SELECT * FROM found WHERE op_no = ?", (operation.op_no,)).fetchall())
        if not any(is_same(operation, other) for other in journalled):
            conn.execute(insert, operation)


def _missing(conn: sqlite3.Connection) -> Iterator[KeptOperation]:
    """Those of them that the database lacks: settled ones first, for they are not sent again, and each part in its order."""
    rows = conn.execute("SELECT * FROM found WHERE op_id NOT IN (SELECT op_id FROM sync_operations) ORDER BY state = 'pending', op_no")
    yield from map(KeptOperation._make, rows)


def _keep_rows(conn: sqlite3.Connection, damaged: Damaged) -> None:
    """Rows to go on with until the school has sent its own; what does not come again goes then (daemon/inbox.py)."""
    for table in TABLES.values():
        names = damaged.columns_of(table)
        ids = [names.index(column.name) for column in table.columns if column.kind is Kind.ID]
        insert = f"INSERT OR IGNORE INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        for row in damaged.rows(table):
            if all(row[at] is None or (isinstance(row[at], str) and is_id(row[at])) for at in ids):
                with suppress(sqlite3.IntegrityError):
                    conn.execute(insert, row)
    conn.executemany("INSERT OR IGNORE INTO cursors (scope, cursor) VALUES (?, 0)", ((scope,) for scope in damaged.scopes()))
    conn.execute("INSERT OR REPLACE INTO mastery_stale (student_id) SELECT DISTINCT student_id FROM question_attempts")


def _school_id(conn: sqlite3.Connection) -> str | None:
    identity = identity_row(conn)
    return str(identity["school_id"]) if identity else None


def insert_identity(conn: sqlite3.Connection, identity: Mapping[str, Any]) -> None:
    """Becomes the device again; columns that this version does not have are left out."""
    columns = [row[1] for row in conn.execute("PRAGMA table_info(identity)") if row[1] in identity]
    conn.execute(
        f"INSERT INTO identity ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", [identity[name] for name in columns]
    )
