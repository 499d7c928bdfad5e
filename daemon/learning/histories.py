"""Students folded in memory, and brought up to date before they are looked at.

A new answer costs one look at the index and some microseconds. Whatever else changes attempts (a pull, a corrected time, a question about other
concepts) leaves a mark in `mastery_stale`; then everything is read again and compared. The database stays the truth: a student who was let go
of, or a daemon that was started anew, is read from it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict

from daemon.database import DeviceDatabase
from daemon.learning.attempts import Extent, answers_since, extent_of, folded_attempts
from daemon.learning.model import ModelSource
from daemon.learning.students import HeldStudent, LongStudent, Student
from domain.ids import Id
from domain.learning.model import MasteryModel

# Attempts held in memory at a time, of all students together, some 1 KB each; a student who has more is held without them.
HELD_ATTEMPTS_MAX = 12_000
# A student who was not looked at for so long is let go of.
IDLE_MS_MAX = 10 * 60 * 1000


class Histories:
    """The students of a device. `lock` is to be held while a `Student` is used; everything here is for any thread."""

    def __init__(self, database: DeviceDatabase, held_attempts_max: int = HELD_ATTEMPTS_MAX) -> None:
        self.lock = threading.RLock()
        self._database = database
        self._held_attempts_max = held_attempts_max
        self._models = ModelSource()
        self._students: OrderedDict[str, Student] = OrderedDict()

    @property
    def held(self) -> list[str]:
        """The students in memory, the one looked at last at the end."""
        with self.lock:
            return list(self._students)

    def up_to_date(self, student_id: Id, now_ms: int) -> Student:
        """A student as of now. The caller holds `lock`, and is in no read or write: what it reads here is never older than what was read before."""
        with self._database.read() as conn:
            model, mark, extent = self._models.current(conn), _mark(conn, student_id), extent_of(conn, student_id)
            kind = HeldStudent if extent.attempts <= self._held_attempts_max else LongStudent
            student = self._students.get(student_id)
            if student is None or student.model is not model or not isinstance(student, kind):
                student = kind(model).same_with(folded_attempts(conn, student_id))
            elif mark not in (0, student.mark) or not _take_in(conn, student, student_id, extent):
                student = student.same_with(folded_attempts(conn, student_id))
        student.mark, student.extent, student.used_at_ms = mark or student.mark, extent, now_ms
        self._students[student_id] = student
        self._students.move_to_end(student_id)
        self._make_room()
        return student

    def passing(self, student_id: Id, now_ms: int) -> Student:
        """The same for a look in passing: one who is not held is folded while being read, and not held afterwards either."""
        if student_id in self._students:
            return self.up_to_date(student_id, now_ms)
        with self._database.read() as conn:
            mark, extent = _mark(conn, student_id), extent_of(conn, student_id)
            student = LongStudent(self._models.current(conn)).same_with(folded_attempts(conn, student_id))
        student.mark, student.extent = mark, extent
        return student

    def model(self, conn: sqlite3.Connection) -> MasteryModel:
        """The model in force; inside the caller's read."""
        return self._models.current(conn)

    def let_go(self, now_ms: int) -> None:
        """Forgets students whom nobody has looked at for long, and those without attempts on this device: they were moved away, or erased."""
        with self.lock, self._database.read() as conn:
            for student_id, student in list(self._students.items()):
                if abs(now_ms - student.used_at_ms) > IDLE_MS_MAX or not extent_of(conn, Id(student_id)).attempts:
                    del self._students[student_id]

    def _make_room(self) -> None:
        held = sum(student.held_attempts for student in self._students.values())
        while held > self._held_attempts_max and len(self._students) > 1:
            _, oldest = self._students.popitem(last=False)
            held -= oldest.held_attempts


def _mark(conn: sqlite3.Connection, student_id: Id) -> int:
    row = conn.execute("SELECT mark FROM mastery_stale WHERE student_id = ?", (student_id,)).fetchone()
    return int(row[0]) if row else 0


def _take_in(conn: sqlite3.Connection, student: Student, student_id: Id, extent: Extent) -> bool:
    """Takes in the answers since the last one; whether those are all that were missing."""
    if extent == student.extent:
        return True
    return student.take_in(list(answers_since(conn, student_id, student.extent.latest_ms)), extent.attempts)
