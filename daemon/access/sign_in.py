"""How a student signs in: by picking a name and giving the PIN, without a network.

Without a PIN only where the school allows it, and only while there is a single student on the device who has none. Whoever is not on this device is
refused as a wrong PIN is, after the same work: nothing tells whether the school knows the name.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from enum import StrEnum

from daemon.access.apps import DEVICE_PAGE, App
from daemon.access.online import SchoolSignIn
from daemon.access.pins import Pins, PinState
from daemon.access.sessions import Session, Sessions, Student
from daemon.access.sign_in_tries import SignInTries
from daemon.database import DeviceDatabase
from domain.clock import Clock
from domain.errors import Forbidden, InvalidInput, NotFound, Problem, RateLimited
from domain.ids import Id

# Requests to sign in, right or wrong, that may come at once, and that may come a second after that.
BURST_MAX = 60
PER_S = 2.0

# Users of the whole school are on every device, by name only. A student is on a device that follows the student's scope; while the cursors
# are being built anew (a restored server, a copied file), one who left something here.
_ON_DEVICE = """role = 'student' AND retired_at_ms IS NULL AND (
    'student:' || id IN (SELECT scope FROM cursors)
    OR NOT EXISTS (SELECT 1 FROM cursors) AND (
        id IN (SELECT id FROM student_profiles)
        OR id IN (SELECT student_id FROM student_sessions)
        OR EXISTS (SELECT 1 FROM question_attempts WHERE student_id = users.id)))"""


class PinNeed(StrEnum):
    """What a student must give besides the name: a PIN (`set`); nothing (`not_needed`); or a teacher must set one first (`not_set`, `expired`)."""

    SET = "set"
    NOT_SET = "not_set"
    EXPIRED = "expired"
    NOT_NEEDED = "not_needed"


class SignIn:
    """The students of this device, and their way in. For any thread."""

    def __init__(
        self,
        database: DeviceDatabase,
        clock: Clock,
        sessions: Sessions,
        pins: Pins,
        single_student_without_pin: bool,
        school: SchoolSignIn | None = None,
        is_locked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._school, self._is_locked = school, is_locked
        self._database, self._sessions, self._pins = database, sessions, pins
        self._tries, self._rate = SignInTries(database, clock), _Rate(clock)
        self._single_without_pin = single_student_without_pin

    def students(self) -> list[tuple[Student, PinNeed]]:
        """The students on this device, by displayed name."""
        present = self._present()
        return [(student, self._need(student, present)) for student in present]

    def start(self, app: App, student_id: Id | None, username: str | None, pin: str | None, password: str | None = None) -> Session:
        """Signs a student in to an app: named by id or by user name, or not at all when there is only one on the device.

        A `password` is judged by the school, and is the student's PIN on this device from then on; while the school cannot be asked it is judged as that.

        The device page always needs a PIN: any program of the machine can call as it does.
        Raises InvalidInput when it is not clear who is meant or no PIN is given, Forbidden (`wrong_pin`, `pin_not_set`, `pin_expired`), and
        RateLimited while wrong tries make the next one wait. Forbidden (`device_locked`) on a device that the school has revoked.
        """
        self._rate.take()
        if self._is_locked():
            raise Forbidden("The school has revoked this device: nobody signs in here.", "device_locked")
        present = self._present()
        student = _meant(present, student_id, username)
        if password is not None:
            if self._judged_by_school(student, username, password) and student:
                return self._sessions.start(student, app)
            pin = password
        need = self._need(student, present) if student else PinNeed.SET
        if need is PinNeed.NOT_SET or (need is PinNeed.NOT_NEEDED and app.id == DEVICE_PAGE):
            raise Forbidden("No PIN is set for this student on this device: a teacher sets one.", "pin_not_set")
        if need is PinNeed.EXPIRED:
            raise Forbidden("This student's PIN was set too long ago: a teacher sets it anew.", "pin_expired")
        if need is PinNeed.SET:
            self._demand_pin(student, pin)
        if student is None:
            raise Forbidden("The name or the PIN is wrong.", "wrong_pin")
        return self._sessions.start(student, app)

    def set_pin(self, student_id: Id, pin: str) -> None:
        """Sets the PIN of a student on this device. Raises NotFound."""
        if all(student.id != student_id for student in self._present()):
            raise NotFound("There is no such student on this device.")
        self._pins.set(student_id, pin)

    def _judged_by_school(self, student: Student | None, username: str | None, password: str) -> bool:
        """Whether the school could be asked, and the password is right. Raises Forbidden (`wrong_password`), RateLimited."""
        name = student.username if student else username
        found = self._school.student(name, password) if self._school and name else None
        if found is None:
            return False
        if student is None or found != student.id:
            raise Forbidden("The name or the password is wrong.", "wrong_password")
        self._pins.set(student.id, password)
        return True

    def _demand_pin(self, student: Student | None, pin: str | None) -> None:
        if pin is None:
            raise InvalidInput([Problem("$.pin", "missing_field", "The PIN must be given.")])
        id_ = student.id if student else None
        self._tries.begin(id_)
        if not self._pins.is_right(id_, pin) or id_ is None:
            raise Forbidden("The name or the PIN is wrong.", "wrong_pin")
        self._tries.succeeded(id_)

    def _need(self, student: Student, present: list[Student]) -> PinNeed:
        state = self._pins.state(student.id)
        if state is PinState.NOT_SET and len(present) == 1 and self._single_without_pin:
            return PinNeed.NOT_NEEDED
        return PinNeed(state.value)

    def _present(self) -> list[Student]:
        with self._database.read() as conn:
            return _students(conn)


class _Rate:
    """A bucket of BURST_MAX requests that fills by PER_S a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._left, self._at_ms = float(BURST_MAX), clock.monotonic_ms()

    def take(self) -> None:
        """Raises RateLimited when the bucket is empty."""
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            self._left = min(BURST_MAX, self._left + (now_ms - self._at_ms) / 1000 * PER_S)
            self._at_ms = now_ms
            if self._left < 1:
                raise RateLimited("Too many are signing in at this moment.", (1 - self._left) / PER_S)
            self._left -= 1


def _students(conn: sqlite3.Connection) -> list[Student]:
    rows = conn.execute(f"SELECT id, username, display_name FROM users WHERE {_ON_DEVICE} ORDER BY display_name, id")
    return [Student(Id(row[0]), row[1], row[2]) for row in rows]


def _meant(present: list[Student], student_id: Id | None, username: str | None) -> Student | None:
    """The student who is meant; None for somebody who is not on this device."""
    if student_id is not None and username is not None:
        raise InvalidInput([Problem("$.username", "ambiguous", "Say either student_id or username.")])
    if student_id is not None or username is not None:
        present = [s for s in present if student_id in (None, s.id) and username in (None, s.username)]
    if not present:
        return None
    if len(present) > 1:
        raise InvalidInput([Problem("$.student_id", "missing_field", "Several students are on this device: say which.")])
    return present[0]
