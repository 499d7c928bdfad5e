"""Sessions of students: who is signed in to which app, by a random token of which only the hash is kept.

A session ends when it has not been used for the time of the settings, when the student signs out, when another student signs in at the same app, and
with its app. It outlives a restart of the daemon.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from daemon.access.apps import TOKEN_BYTES, App, token_hash
from daemon.database import DeviceDatabase
from domain.clock import Clock
from domain.errors import StorageFull
from domain.ids import Id

MINUTE_MS = 60_000
# The last use is written down at most this often: a write costs an fsync.
NOTE_USE_AFTER_MS = MINUTE_MS
# Sessions that one student may have, for several windows and apps; the ones not used for longest end first.
SESSIONS_MAX = 20


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


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Whose a live session is, and in which app."""

    student_id: Id
    app_id: str


class Sessions:
    """The sessions of this device, each ending `idle_min` minutes after its last use."""

    def __init__(self, database: DeviceDatabase, clock: Clock, idle_min: int) -> None:
        self._database, self._clock = database, clock
        self.idle_ms = idle_min * MINUTE_MS
        # Last uses that a full disk did not take: reading goes on then.
        self._unwritten: dict[str, int] = {}
        # Sessions that were ended while nothing at all could be written. A restart would bring one back, until its idle time is over.
        self._ended: set[str] = set()

    def start(self, student: Student, app: App) -> Session:
        """Signs a student in to an app. Sessions of other students there end: what is on the screen belongs to one."""
        token, now_ms, ended = secrets.token_urlsafe(TOKEN_BYTES), self._clock.now_ms(), list(self._ended)

        def work(conn: sqlite3.Connection) -> None:
            _delete(conn, ended)
            conn.execute("DELETE FROM student_sessions WHERE app_id = ? AND student_id <> ?", (app.id, student.id))
            conn.execute("DELETE FROM student_sessions WHERE abs(? - used_at_ms) > ?", (now_ms, self.idle_ms))
            conn.execute(
                "DELETE FROM student_sessions WHERE token_hash IN (SELECT token_hash FROM student_sessions WHERE student_id = ?"
                " ORDER BY used_at_ms DESC LIMIT -1 OFFSET ?)",
                (student.id, SESSIONS_MAX - 1),
            )
            conn.execute(
                "INSERT INTO student_sessions (token_hash, student_id, app_id, created_at_ms, used_at_ms) VALUES (?, ?, ?, ?, ?)",
                (token_hash(token), student.id, app.id, now_ms, now_ms),
            )

        self._database.write(work)
        self._unwritten.clear()  # there is room again
        self._ended.difference_update(ended)
        return Session(token, student, now_ms + self.idle_ms)

    def end(self, token: str) -> None:
        """Ends a session, on a full disk too; a token without one is no error."""
        hash_ = token_hash(token)
        self._ended.add(hash_)
        with suppress(StorageFull):
            self._database.write(lambda conn: _delete(conn, [hash_]), finishing=True)
            self._ended.discard(hash_)
        self._unwritten.pop(hash_, None)

    def find(self, hash_: str) -> SignedIn | None:
        """Whose live session the token with this hash is; that counts as a use of it.

        Sessions go with the student's scope, so a row is proof that the student is on this device.
        """
        with self._database.read() as conn:
            row = conn.execute(
                "SELECT student_id, app_id, used_at_ms FROM student_sessions JOIN users ON id = student_id"
                " WHERE token_hash = ? AND retired_at_ms IS NULL",
                (hash_,),
            ).fetchone()
        if row is None or hash_ in self._ended:
            return None
        now_ms, used_at_ms = self._clock.now_ms(), self._unwritten.get(hash_, row[2])
        # A clock that jumps, forwards or back, ends sessions rather than lengthening them.
        unused_ms = abs(now_ms - used_at_ms)
        if unused_ms > self.idle_ms:
            return None
        if unused_ms > NOTE_USE_AFTER_MS:
            self._note_use(hash_, now_ms)
        return SignedIn(Id(row[0]), row[1])

    def _note_use(self, hash_: str, now_ms: int) -> None:
        self._unwritten[hash_] = now_ms
        with suppress(StorageFull):
            self._database.write(
                lambda conn: conn.execute("UPDATE student_sessions SET used_at_ms = ? WHERE token_hash = ?", (now_ms, hash_)).rowcount
            )
            self._unwritten.pop(hash_, None)


def _delete(conn: sqlite3.Connection, hashes: Sequence[str]) -> None:
    conn.executemany("DELETE FROM student_sessions WHERE token_hash = ?", [(hash_,) for hash_ in hashes])
