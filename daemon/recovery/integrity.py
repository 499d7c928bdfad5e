"""Whether the database can be trusted, asked before anything opens it for good.

What a look costs decides how often it is taken. The schema, and what is unsent, held against the journal with its checksums, are looked at
at every start: milliseconds. The whole file is looked through (some 4 ms a megabyte) when it is small, once a week, and whenever the last
daemon did not end in order or was ended by the database. `<database>.health` remembers both.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from daemon.durable_file import read_json, replace_json
from daemon.identity.instance import IDENTITY_COPY
from daemon.recovery.journal_file import KeptOperation, is_same, journal_path, read, scan
from daemon.sqlite_errors import is_about_surroundings, is_busy
from domain.clock import Clock
from domain.errors import OperatorError, Unavailable
from migrations.pragmas import SAFE
from migrations.private_files import real_path

log = logging.getLogger(__name__)

SUFFIX = ".health"
# A file up to this size is looked through at every start.
SMALL_BYTES = 32 * 1024 * 1024
CHECK_EVERY_MS = 7 * 24 * 3600 * 1000
BUSY_TIMEOUT_S = 5.0

_COMPARED = (
    "SELECT op_no, op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_id, payload, base"
    " FROM sync_operations JOIN boots USING (boot_no) WHERE op_no = ?"
)


class Checkup:
    """Looks at the database at `database` of the state folder `state_dir`. Nothing may have it open but what this opens itself."""

    def __init__(self, database: Path, state_dir: Path, clock: Clock) -> None:
        self._path, self._state_dir, self._clock = real_path(database), state_dir, clock
        self._health_path = self._path.with_name(self._path.name + SUFFIX)

    def find_damage(self) -> str | None:
        """What is wrong with the file, in a few words; None when nothing is, and before there was one.

        Raises OperatorError when the file may not be read, Unavailable while another program holds it.
        """
        try:
            size_bytes = self._path.stat().st_size if stat.S_ISREG(self._path.stat().st_mode) else None
        except FileNotFoundError:
            return "it is gone" if self._was_there() else None
        except OSError as error:
            raise _not_readable(self._path, error) from error
        if size_bytes is None:
            return "it is not a file"
        if size_bytes == 0:
            return "it is empty" if self._was_there() else None
        try:
            os.chmod(self._path, 0o600)
        except OSError as error:
            raise _not_readable(self._path, error) from error
        return self._problem_inside(size_bytes)

    @contextmanager
    def in_use(self, is_sound: Callable[[], bool]) -> Iterator[None]:
        """Notes that the database is in use, until it was closed in order: without the latter the next start looks at everything.

        `is_sound` says at the end whether the database worked until then.
        """
        self._note(in_use=True)
        try:
            yield
        finally:
            if is_sound():
                self._note(in_use=False)

    def repeat_if_due(self, look_through: Callable[[], None]) -> None:
        """Has a file that is in use looked through once a week, by its owner: `look_through` raises when something is wrong."""
        if not 0 <= self._clock.now_ms() - self._noted().get("checked_ms", 0) < CHECK_EVERY_MS:
            look_through()
            self._note(checked_ms=self._clock.now_ms())

    def _was_there(self) -> bool:
        """Whether this device has had a database: it would know who it is, or have something unsent."""
        return (self._state_dir / IDENTITY_COPY).exists() or _size(journal_path(self._path)) > 0

    def _problem_inside(self, size_bytes: int) -> str | None:
        uri = f"{self._path.as_uri()}?mode=rw"  # not mode=ro: a -wal without its -shm could not be read
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as conn:
                for name, value in {**SAFE, "query_only": 1}.items():
                    conn.execute(f"PRAGMA {name} = {value}")
                return self._problem_in_pages(conn, size_bytes) or _problem_in_queue(conn, journal_path(self._path))
        except UnicodeDecodeError:
            return "SQLite reads texts in it that are none"
        except OSError as error:
            raise _not_readable(journal_path(self._path), error) from error
        except sqlite3.Error as error:
            if is_busy(error):
                raise Unavailable(f"Another program is using {self._path}.") from error
            if is_about_surroundings(error):
                raise OperatorError(f"{self._path} cannot be opened: {error}.") from error
            return f"SQLite says: {error}"

    def _problem_in_pages(self, conn: sqlite3.Connection, size_bytes: int) -> str | None:
        """Looks at the schema always, and at every page when it is time for it."""
        noted, now_ms = self._noted(), self._clock.now_ms()
        schema = _schema(conn)
        if (before := noted.get("schema")) and before[0] == schema[0] and before != schema:
            return "its schema is not what it was"
        in_order = noted.get("in_use") is False and not _size(self._path.with_name(self._path.name + "-wal"))
        if in_order and size_bytes > SMALL_BYTES and 0 <= now_ms - noted.get("checked_ms", 0) < CHECK_EVERY_MS:
            return None
        # Not quick_check, which passes over indexes that do not say what their table says, and costs half as much.
        found = str(conn.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if found != "ok":
            return f"SQLite says: {found.splitlines()[-1]}"
        self._note(schema=schema, checked_ms=now_ms)
        return None

    def _noted(self) -> dict[str, Any]:
        """`in_use`, `checked_ms` (UTC ms) and `schema`, as far as they are known."""
        return read_json(self._health_path) or {}

    def _note(self, **changed: Any) -> None:
        try:
            replace_json(self._health_path, self._noted() | changed)
        except OSError as error:
            log.warning("the state of the database cannot be noted: %s", error.strerror)


def _schema(conn: sqlite3.Connection) -> list[int]:
    """The number that SQLite raises with every change of the schema, and a checksum of what the schema says."""
    (number,) = conn.execute("PRAGMA schema_version").fetchone()
    rows = conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    return [int(number), zlib.crc32(repr(rows).encode())]


def _problem_in_queue(conn: sqlite3.Connection, journal: Path) -> str | None:
    """Holds what the journal says of unsent operations against what the database says: SQLite has no checksums of its own.

    Operations that are only in the journal are no damage: they are put back (daemon/recovery/replacement.py).
    """
    if not conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sync_operations'").fetchone():
        return None
    for operation in read(journal, scan(journal)):
        row = conn.execute(_COMPARED, (operation.op_no,)).fetchone()
        if row is not None and row != operation[: len(row)] and is_same(KeptOperation(*row), operation):
            return f"operation {operation.op_no} is not what it was when it was written"
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _not_readable(path: Path, error: OSError) -> OperatorError:
    return OperatorError(f"{path} cannot be used: {error.strerror}. It must belong to the account that the daemon runs under.")
