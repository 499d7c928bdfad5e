"""Erasing a student from this device, on the school's order: rows, queued operations, side files, to the last byte.

    a page brings the order ──▶ noted ──▶ rows and operations go ──▶ files are written anew ──▶ carried out, which the next pull says

An order stays noted until no byte is left: whatever ends the process in between, the next round begins again. What people have carried away, a
`carrel backup` or a bundle, is out of reach.

Operations that others have queued keep their order; their places in the log close up, and they are sent under a new incarnation.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from daemon.database import DeviceDatabase
from daemon.erasure import orders
from daemon.erasure.files import files_with_students, remove
from daemon.erasure.rows import close_up, delete_rows, operations_of
from daemon.identity import Identity
from domain.errors import OperatorError, Unavailable
from domain.wire import ErasureOrder
from loglines.parts import fields

log = logging.getLogger(__name__)

# How often rows are looked for that came back while the files were written anew, by a job that was at work on them.
TRIES_MAX = 3


class Eraser:
    """Carries orders out on one device, whose backups lie in `backups_dir`."""

    def __init__(self, database: DeviceDatabase, identity: Identity, backups_dir: Path | None = None) -> None:
        self._database, self._identity, self._backups_dir = database, identity, backups_dir

    def carry_out(self) -> bool:
        """Carries out what is noted; whether there was anything. Raises StorageFull, Unavailable and OperatorError: then it stays noted."""
        with self._database.read() as conn:
            due = orders.noted(conn)
        if not due:
            return False
        students = [order.student_id for order in due]
        self._database.write(lambda conn: self._delete(conn, students), finishing=True)
        for _ in range(TRIES_MAX):
            self._remove_files()
            self._database.write_anew()
            if self._database.write(lambda conn: self._conclude(conn, due), finishing=True):
                log.info("erased students on the school's order", extra=fields(students=len(students)))
                return True
        raise Unavailable("Rows of an erased student keep coming back.")

    def _delete(self, conn: sqlite3.Connection, students: Sequence[str]) -> int:
        """How many rows and operations went."""
        gone = 0
        for student in students:
            operations = operations_of(conn, student)
            gone += sum(delete_rows(conn, student)) + len(operations)
            if operations:
                close_up(conn, operations)
                self._identity.start_incarnation(conn, resend_all=False)
        return gone

    def _conclude(self, conn: sqlite3.Connection, due: Sequence[ErasureOrder]) -> bool:
        """Notes that the orders are carried out, unless rows have come back."""
        if self._delete(conn, [order.student_id for order in due]):
            return False
        orders.conclude(conn, due)
        return True

    def _remove_files(self) -> None:
        """Everything beside the database that may hold rows. Backups as well; the next one is due at once then.

        One that is being made loses its file, and fails: it may have been begun before the rows went.
        """
        try:
            for path in list(files_with_students(self._database.path, self._identity.state_dir, self._backups_dir)):
                remove(path)
        except OSError as error:
            raise OperatorError(f"A file of an erased student cannot be deleted: {error.strerror}.") from error
