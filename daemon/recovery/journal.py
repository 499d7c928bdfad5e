"""The side file of unsent operations, `<database>.journal`: what they are recovered from when the database itself is damaged.

The writer thread appends every operation as soon as the commit that holds it has returned, and before anybody is told so: what was rolled
back never gets here, and what was acknowledged with 2xx is in both files. It is not synced with each commit: until the kernel or `sync` has
brought it to the disk, the database's own synced -wal holds the same operations, so that only a power cut and a damaged database
together can reach them.

When nothing is unsent the file is emptied. When the settled part of it outweighs the rest it is written anew, so that it stays within
twice the size of what is queued, and REWRITE_MIN_BYTES. daemon/recovery/journal_file.py has its format.
"""

from __future__ import annotations

import itertools
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daemon.durable_file import PARTIAL
from daemon.recovery.journal_file import VERSION, KeptOperation, encoded
from domain.errors import CarrelError
from domain.operations import OperationState
from migrations.private_files import create_private, to_disk

log = logging.getLogger(__name__)

# A file smaller than this is not worth writing anew.
REWRITE_MIN_BYTES = 1024 * 1024
_BUFFER_BYTES = 256 * 1024

_COLUMNS = "op_no, op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_id, payload, base"
_NEW = f"SELECT {_COLUMNS} FROM sync_operations JOIN boots USING (boot_no) WHERE op_no > ? ORDER BY op_no"
_REJECTED = "SELECT op_no, code, message FROM sync_operations WHERE state = 'rejected' AND op_no > ? AND op_no <= ?"
# Two searches of partial indexes rather than one of the whole table. What is pending is never before what is settled.
_UNSENT = tuple(
    f"SELECT {_COLUMNS}, state, code, message FROM sync_operations JOIN boots USING (boot_no) WHERE state = '{state.value}' ORDER BY op_no"
    for state in (OperationState.REJECTED, OperationState.PENDING)
)


@dataclass
class Journal:
    """The journal of an open database. `follow` belongs to the writer thread; `sync` and `close` to any.

    A write that fails, on a full disk for instance, is made up for by the next one that does not: what is missing is read from the database.
    """

    path: Path
    _file: int | None = None
    _size: int = 0
    _operations: int = 0  # in the file, settled or not
    _last_op_no: int = 0
    _settled_op_no: int = 0
    _incarnation: str | None = None  # of the log, of which the numbers above are
    _behind: bool = False
    _dirty: bool = False
    _anew: bool = False
    _using: threading.Lock = field(default_factory=threading.Lock)  # the file is not exchanged while it is synced

    def follow(self, conn: sqlite3.Connection) -> None:
        """Takes over what the commit that has just returned has changed; the first call writes the file anew, from the database.

        Whatever only the file had must be in the database by then (daemon/recovery/replacement.py). Raises sqlite3.Error; that the file cannot be
        written is logged.
        """
        try:
            self._rewrite(conn) if self._file is None or self._anew else self._follow(conn, self._file)
            self._behind = self._anew = False
        except OSError as error:
            if not self._behind:
                log.warning("the side file of unsent operations falls behind: %s", error.strerror)
            self._behind = True

    @property
    def is_behind(self) -> bool:
        """Whether the last thing to be taken over could not be written."""
        return self._behind

    def write_anew(self) -> None:
        """Has the next `follow` leave in the file what is unsent, and no byte of anything else; for the writer thread."""
        self._anew = True

    def sync(self) -> None:
        """Brings what was appended to the disk, unless there is nothing. Raises CarrelError when the disk refuses."""
        with self._using:
            if self._file is None or not self._dirty:
                return
            self._dirty = False
            try:
                os.fsync(self._file)
            except OSError as error:
                raise CarrelError(f"The side file of unsent operations cannot be synced: {error.strerror}.") from error

    def close(self) -> None:
        """Closes the file; calling it again does nothing."""
        with self._using:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _follow(self, conn: sqlite3.Connection, file: int) -> None:
        incarnation, settled_op_no = _place(conn)
        if incarnation != self._incarnation:  # operations may have other numbers now, or are to be sent once more
            self._rewrite(conn)
            return
        if rows := conn.execute(_NEW, (self._last_op_no,)).fetchall():
            lines = [encoded("op", *row) for row in rows]
            self._append(file, lines if self._size else [_header(conn), *lines])
            self._last_op_no, self._operations = rows[-1][0], self._operations + len(rows)
        if settled_op_no > self._settled_op_no:
            self._settle(conn, file, settled_op_no)

    def _settle(self, conn: sqlite3.Connection, file: int, settled_op_no: int) -> None:
        if self._size:
            rejected = conn.execute(_REJECTED, (self._settled_op_no, settled_op_no))
            self._append(file, [*(encoded("rejected", *row) for row in rejected), encoded("settled", settled_op_no)])
        self._settled_op_no = settled_op_no
        unsettled = self._last_op_no - settled_op_no
        if unsettled <= 0 or (self._size > REWRITE_MIN_BYTES and unsettled < self._operations / 2):
            self._rewrite(conn)

    def _append(self, file: int, lines: Sequence[bytes]) -> None:
        """Adds the lines or, when that fails, nothing."""
        data, written = b"".join(lines), 0
        try:
            while written < len(data):
                written += os.pwrite(file, data[written:], self._size + written)
        except OSError:
            os.ftruncate(file, self._size)
            raise
        self._size += written
        self._dirty = True

    def _rewrite(self, conn: sqlite3.Connection) -> None:
        """Leaves what is unsent now and nothing else; when that is nothing, an empty file."""
        last_op_no, (incarnation, settled_op_no) = _last_op_no(conn), _place(conn)
        operations = _unsent(conn)
        first = next(operations, None)
        if first is None and self._file is not None:
            os.ftruncate(self._file, 0)
            self._size = self._operations = 0
        else:
            kept = () if first is None else itertools.chain([first], operations)
            self._exchange(_header(conn) + encoded("settled", settled_op_no), kept)
        self._last_op_no, self._settled_op_no, self._incarnation = last_op_no, settled_op_no, incarnation

    def _exchange(self, head: bytes, operations: Iterable[KeptOperation]) -> None:
        """Puts a file with these operations in the place of the present one, on the disk before it takes its name."""
        partial = self.path.with_name(self.path.name + PARTIAL)
        partial.unlink(missing_ok=True)
        file = create_private(partial, self.path)
        try:
            size, count = _fill(file, head, operations)
            os.fsync(file)
            partial.rename(self.path)
            to_disk(self.path.parent)
        except BaseException:
            os.close(file)
            partial.unlink(missing_ok=True)
            self.close()  # whichever of the two has the name: the next call begins with the database
            raise
        self.close()
        with self._using:
            self._file, self._size, self._operations, self._dirty = file, size, count, False


def _unsent(conn: sqlite3.Connection) -> Iterator[KeptOperation]:
    """What a database holds that is not at school: rejected operations, then pending ones, each in order."""
    for query in _UNSENT:
        yield from map(KeptOperation._make, conn.execute(query))


def _fill(file: int, head: bytes, operations: Iterable[KeptOperation]) -> tuple[int, int]:
    """Writes the lines of these operations, if there are any, behind `head`; returns bytes and operations."""
    count = 0
    with os.fdopen(os.dup(file), "wb", _BUFFER_BYTES) as out:
        for operation in operations:
            out.write(encoded("op", *operation[:-3]) if count else head + encoded("op", *operation[:-3]))
            count += 1
            if operation.state == OperationState.REJECTED:
                out.write(encoded("rejected", operation.op_no, operation.code, operation.message))
        return out.tell(), count


def _header(conn: sqlite3.Connection) -> bytes:
    row = conn.execute("SELECT school_id FROM identity").fetchone()
    return encoded("journal", VERSION, row[0] if row else None)


def _place(conn: sqlite3.Connection) -> tuple[str | None, int]:
    row = conn.execute("SELECT incarnation, acked_op_no FROM sync_progress").fetchone()
    return row or (None, 0)


def _last_op_no(conn: sqlite3.Connection) -> int:
    row = conn.execute("SELECT max(op_no) FROM sync_operations").fetchone()
    return int(row[0] or 0)
