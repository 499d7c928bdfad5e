"""Sessions of students, and who a request comes from.

A learning app signs a student in by name and gets a random token, of which only the hash is kept. There is no password: what a student does
on a device is bound to the device and the account that runs the apps, and hashes of passwords never leave the server.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from daemon.database import DeviceDatabase
from daemon.endpoints import Access, Device
from domain.errors import Forbidden, InvalidInput, NotFound, NotSignedIn, Problem, StorageFull
from domain.ids import Id

TOKEN_BYTES = 32
TOKEN_LENGTH_MAX = 200
DAY_MS = 24 * 60 * 60 * 1000
# A session ends this long after its last use.
IDLE_MAX_MS = 30 * DAY_MS
# Its last use is written down at most this often.
NOTE_USE_AFTER_MS = DAY_MS
# Sessions that one student may have; the ones not used for longest end first.
SESSIONS_MAX = 20

# Users of the whole school are on every device, by name only. A student is on a device that follows the student's scope; while the cursors
# are being built anew (a restored server, a copied file), one who left something here.
_ON_DEVICE = """role = 'student' AND retired_at_ms IS NULL AND (
    'student:' || id IN (SELECT scope FROM cursors)
    OR NOT EXISTS (SELECT 1 FROM cursors) AND (
        id IN (SELECT id FROM student_profiles)
        OR id IN (SELECT student_id FROM student_sessions)
        OR EXISTS (SELECT 1 FROM question_attempts WHERE student_id = users.id)))"""


@dataclass(frozen=True, slots=True)
class Student:
    """A student of this device, as sign-in pages show them."""

    id: Id
    username: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Session:
    """A session just made. `token` is shown once and never again."""

    token: str
    student: Student
    expires_at_ms: int


def start(device: Device, student_id: Id | None, username: str | None) -> Session:
    """Signs a student in: by id, by user name, or without either when there is only one on the device.

    Raises NotFound for a student who is not on the device, InvalidInput when it is not clear who is meant.
    """
    with device.database.read() as conn:
        student = _meant(_students(conn), student_id, username)
    token, now_ms = secrets.token_urlsafe(TOKEN_BYTES), device.clock.now_ms()

    def work(conn: sqlite3.Connection) -> None:
        conn.execute("DELETE FROM student_sessions WHERE used_at_ms < ?", (now_ms - IDLE_MAX_MS,))
        conn.execute(
            "DELETE FROM student_sessions WHERE token_hash IN (SELECT token_hash FROM student_sessions WHERE student_id = ?"
            " ORDER BY used_at_ms DESC LIMIT -1 OFFSET ?)",
            (student.id, SESSIONS_MAX - 1),
        )
        conn.execute(
            "INSERT INTO student_sessions (token_hash, student_id, created_at_ms, used_at_ms) VALUES (?, ?, ?, ?)",
            (_hash(token), student.id, now_ms, now_ms),
        )

    device.database.write(work)
    return Session(token, student, now_ms + IDLE_MAX_MS)


def end(database: DeviceDatabase, token: str) -> None:
    """Ends a session; a token without one is no error."""
    database.write(lambda conn: conn.execute("DELETE FROM student_sessions WHERE token_hash = ?", (_hash(token),)).rowcount)


def students(database: DeviceDatabase) -> list[Student]:
    """The students on this device, by displayed name."""
    with database.read() as conn:
        return _students(conn)


def caller(device: Device, access: Access, authorization: str | None) -> Id | None:
    """Who calls, by the Authorization header: a student's id, or None for an open endpoint and for the control token.

    Raises NotSignedIn without a valid token, Forbidden with the wrong kind of token.
    """
    if access is Access.OPEN:
        return None
    token = bearer(authorization)
    if hmac.compare_digest(_hash(token), _hash(device.control_token)):
        if access is Access.STUDENT:
            raise Forbidden("This needs a student's session, not the control token.")
        return None
    student_id = _signed_in(device, token)
    if access is Access.CONTROL:
        raise Forbidden("This needs the control token of the daemon.")
    return student_id


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header. Raises NotSignedIn when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH_MAX:
        raise NotSignedIn()
    return token


def _signed_in(device: Device, token: str) -> Id:
    """The student of a live session. Sessions go with the student's scope, so a row is proof that the student is on this device."""
    hash_, now_ms = _hash(token), device.clock.now_ms()
    with device.database.read() as conn:
        row = conn.execute(
            "SELECT student_id, used_at_ms FROM student_sessions JOIN users ON id = student_id WHERE token_hash = ? AND retired_at_ms IS NULL",
            (hash_,),
        ).fetchone()
    if row is None or now_ms - row[1] > IDLE_MAX_MS:
        raise NotSignedIn()
    if now_ms - row[1] > NOTE_USE_AFTER_MS:
        with suppress(StorageFull):  # reading goes on when the disk is full
            device.database.write(lambda conn: _note_use(conn, hash_, now_ms))
    return Id(row[0])


def _note_use(conn: sqlite3.Connection, hash_: str, now_ms: int) -> None:
    conn.execute("UPDATE student_sessions SET used_at_ms = ? WHERE token_hash = ?", (now_ms, hash_))


def _students(conn: sqlite3.Connection) -> list[Student]:
    rows = conn.execute(f"SELECT id, username, display_name FROM users WHERE {_ON_DEVICE} ORDER BY display_name, id")
    return [Student(Id(row[0]), row[1], row[2]) for row in rows]


def _meant(present: list[Student], student_id: Id | None, username: str | None) -> Student:
    if student_id is not None and username is not None:
        raise InvalidInput([Problem("$.username", "ambiguous", "Say either student_id or username.")])
    if student_id is not None or username is not None:
        present = [s for s in present if student_id in (None, s.id) and username in (None, s.username)]
    if not present:
        raise NotFound("There is no such student on this device.")
    if len(present) > 1:
        raise InvalidInput([Problem("$.student_id", "missing_field", "Several students are on this device: say which.")])
    return present[0]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
