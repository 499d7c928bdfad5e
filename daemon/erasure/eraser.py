"""What is to go from this device, gone to the last byte: students whom the school has erased, and answers that it has let go of.

    a page brings the order ──▶ noted ──▶ rows and operations go ──▶ files are written anew ──▶ carried out, which the next pull says

An order stays noted until no byte is left: whatever ends the process in between, the next round begins again. What people have carried away, a
`carrel backup` or a bundle, is out of reach. So it is with the school's word on answers, of which operations stay (daemon/erasure/answers.py).

Operations that others have queued keep their order; their places in the log close up, and they are sent under a new incarnation.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from daemon.database import DeviceDatabase
from daemon.erasure import answers, orders
from daemon.erasure.files import files_with_students, remove
from daemon.erasure.rows import close_up, delete_rows, operations_of
from daemon.identity.device import Identity
from domain.errors import OperatorError, Unavailable
from domain.wire import AnswersLetGo, ErasureOrder
from loglines.parts import fields

log = logging.getLogger(__name__)

# How often rows are looked for that came back while the files were written anew, by a job that was at work on them.
TRIES_MAX = 3


class Eraser:
    """Carries orders out on one device, whose backups lie in `backups_dir`."""

    def __init__(self, database: DeviceDatabase, identity: Identity, backups_dir: Path | None = None) -> None:
        self._database, self._identity, self._backups_dir = database, identity, backups_dir

    def carry_out(self) -> bool:
        """Carries out what is noted; whether a student was erased. Raises StorageFull, Unavailable and OperatorError: then it stays noted."""
        with self._database.read() as conn:
            due, wanted = orders.noted(conn), answers.due(conn)
        if not due and wanted is None:
            return False
        students = [order.student_id for order in due]
        if students:
            self._database.write(lambda conn: self._delete(conn, students), finishing=True)
        for _ in range(TRIES_MAX):
            gone = self._let_go(wanted) if wanted else 0
            removed = self._remove_files()
            if students or removed or self._has_traces():
                self._database.write_anew()
            if self._database.write(lambda conn: self._conclude(conn, due, wanted), finishing=True):
                log.info("let go of what the school has", extra=fields(students=len(students), answers=gone))
                return bool(students)
        raise Unavailable("Rows of an erased student keep coming back.")

    def _let_go(self, wanted: AnswersLetGo) -> int:
        """How many answers went: step by step, so that other writes get in between."""
        gone = 0
        place: answers.Place | None = answers.Place()
        while place is not None:
            step = self._database.write(partial(answers.let_go, wanted=wanted, after=place), finishing=True)
            gone, place = gone + step.gone, step.place
        return gone

    def _has_traces(self) -> bool:
        with self._database.read() as conn:
            return answers.left_traces(conn)

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

    def _conclude(self, conn: sqlite3.Connection, due: Sequence[ErasureOrder], wanted: AnswersLetGo | None) -> bool:
        """Notes that all is carried out, unless rows have come back, or what may hold answers."""
        if self._delete(conn, [order.student_id for order in due]) or (wanted and answers.is_to_look_again(conn)):
            return False
        if due:
            orders.conclude(conn, due)
        if wanted:
            answers.conclude(conn, wanted)
        return True

    def _remove_files(self) -> bool:
        """Everything beside the database that may hold rows. Backups as well; the next one is due at once then. Whether there was anything.

        One that is being made loses its file, and fails: it may have been begun before the rows went.
        """
        try:
            there = [p for p in files_with_students(self._database.path, self._identity.state_dir, self._backups_dir) if os.path.lexists(p)]
            for path in there:
                remove(path)
        except OSError as error:
            raise OperatorError(f"A file of an erased student cannot be deleted: {error.strerror}.") from error
        return bool(there)
