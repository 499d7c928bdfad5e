"""Who this device is: enrolled once, known by a row in the database, and trusted by a token that lies in a file of its own.

The token never enters the database or its backups: `device.token` in the state folder holds it, readable by the daemon's account only.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon import inbox
from daemon.database import DeviceDatabase
from daemon.durable_file import replace_durably
from daemon.identity.adoption import Adoption, Adoptions
from daemon.identity.instance import keep_copy
from daemon.identity.keys import DeviceKeys, ServerKeys, keep_keys
from daemon.queue import outbox
from domain.clock import Clock
from domain.errors import Conflict, NotEnrolled
from domain.ids import Id, IdSource
from domain.wire import EnrolAnswer

TOKEN_FILE = "device.token"  # a file's name
TOKEN_BYTES_MAX = 1_000
# The order that a revoked device is under (daemon/identity/revocation.py); a new enrolment ends it.
REVOKED_FILE = "revoked.json"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What enrolment gave this device."""

    device_id: Id
    school_id: Id
    school_name: str
    cloud_url: str
    server_epoch: str


class Identity:
    """Reads and writes the device's identity. It is read once and kept; only `adopt` and `follow_epoch` change it."""

    def __init__(self, database: DeviceDatabase, state_dir: Path, clock: Clock, ids: IdSource) -> None:
        self._database, self._token_path, self._clock, self._ids = database, state_dir / TOKEN_FILE, clock, ids
        self.state_dir = state_dir
        self._adoptions = Adoptions(state_dir)
        self._current: DeviceIdentity | None = None
        self._reading = threading.Lock()  # nobody keeps what was read before a change, after it
        self._changing = threading.RLock()  # one enrolment at a time, and none while what was said of the device before is written down
        # How often everything was to be pulled anew since the start: what was known of the server's state before does not count any more.
        self.pulls_begun = 0
        self._token: str | None = None

    def current(self) -> DeviceIdentity | None:
        """The identity, or None on a device that was never enrolled."""
        if self._current is None:
            with self._reading:
                with self._database.read() as conn:
                    row = conn.execute("SELECT device_id, school_id, school_name, cloud_url, server_epoch FROM identity").fetchone()
                self._current = DeviceIdentity(*row) if row else None
                return self._current
        return self._current

    def device_id(self) -> Id:
        """This device's id. Raises NotEnrolled."""
        identity = self.current()
        if identity is None:
            raise NotEnrolled()
        return identity.device_id

    def token(self) -> str:
        """The device's token for the cloud API. Raises NotEnrolled when it is missing."""
        if self._token is None:
            self._token = self._tokens()[0]
        return self._token

    def _tokens(self) -> list[str]:
        """The token, and the one before it, if there is one: a server that was restored from a backup knows that one alone."""
        try:
            with self._token_path.open(encoding="ascii") as file:
                return file.read(TOKEN_BYTES_MAX).split() or [""]
        except FileNotFoundError as error:
            raise NotEnrolled(f"The token of this device is missing ({self._token_path}): enrol it again.") from error

    @contextmanager
    def unchanged(self, device_id: Id) -> Iterator[bool]:
        """Whether this is that device still; it is not enrolled anew meanwhile. What the school says of a device that this was once counts for nothing."""
        with self._changing:
            yield self.device_id() == device_id

    def renew_token(self, token: str, device_id: Id) -> None:
        """Uses this token of that device from now on, and keeps the one before it beside. On the disk before it is used. Raises OSError."""
        with self.unchanged(device_id) as is_same:
            if is_same:
                replace_durably(self._token_path, f"{token}\n{self.token()}\n".encode())
                self._token = token

    def try_other_token(self, device_id: Id) -> bool:
        """The server does not know the token of that device: whether there is another, which is used from now on."""
        with self._changing:
            known = self._tokens()
            if len(known) < 2:
                return False
            self.renew_token(known[1], device_id)
            return True

    def adopt(self, answer: EnrolAnswer, cloud_url: str, keys: DeviceKeys | None = None) -> DeviceIdentity:
        """Becomes the device that an enrolment has made. Everything queued stays and is sent under the new name.

        Raises Conflict for a device that holds data of another school: nothing may carry one school's answers into another.
        """
        identity = _identity_of(answer, cloud_url)
        with self._changing:
            before = self.current()
            if before and before.school_id != identity.school_id:
                raise Conflict("This device holds data of another school: back it up and reset it before enrolling it here.")
            self._adoptions.begin(Adoption(answer, cloud_url, keys))
            return self._become(identity, answer, keys)

    def finish_adoption(self) -> None:
        """Ends an enrolment that the end of a process broke off; to be called at every start, before anything asks who this device is."""
        if (begun := self._adoptions.begun()) is None:
            return
        identity, before = _identity_of(begun.answer, begun.cloud_url), self.current()
        if before is None or before.school_id == identity.school_id:
            self._become(identity, begun.answer, begun.keys)
        self._adoptions.end()

    def _become(self, identity: DeviceIdentity, answer: EnrolAnswer, keys: DeviceKeys | None) -> DeviceIdentity:
        before = self.current()
        if before is None or before.device_id != identity.device_id:
            server_keys = ServerKeys(answer.verify_key or None, answer.seal_key or None)
            self._database.write(lambda conn: _store(conn, identity, server_keys, self._ids.new(), self._clock.now_ms()))
        keep_keys(self._token_path.parent, keys)
        replace_durably(self._token_path, answer.token.encode())
        self.pulls_begun += 1
        keep_copy(self._database, self._token_path.parent)
        (self.state_dir / REVOKED_FILE).unlink(missing_ok=True)
        self._adoptions.end()
        with self._reading:
            self._current, self._token = identity, answer.token
        return identity

    def follow_epoch(self, conn: sqlite3.Connection, epoch: str) -> None:
        """The server was restored from a backup: everything still kept is sent again and everything pulled again, inside the caller's write."""
        conn.execute("UPDATE identity SET server_epoch = ?", (epoch,))
        self.start_incarnation(conn, resend_all=True)

    def start_incarnation(self, conn: sqlite3.Connection, *, resend_all: bool) -> None:
        """A new life of the log, because its continuity is in doubt; inside the caller's write.

        With `resend_all` the server lost something: then its feed numbers mean nothing any more, and everything is pulled again as well.
        Otherwise the cursors still hold: rows and cursors of one file are of one moment, whatever became of its other copies.
        """
        outbox.start_incarnation(conn, self._ids.new(), resend_all=resend_all)
        if resend_all:
            inbox.start_over(conn)
            self.pulls_begun += 1

    def fetch_everything_again(self, conn: sqlite3.Connection) -> None:
        """This device was away for longer than the server remembers deletions: everything is pulled again, inside the caller's write.

        Under a new incarnation, so that what it wrote itself comes too; the server has it all, and nothing is sent again.
        """
        outbox.start_incarnation(conn, self._ids.new(), resend_all=False)
        inbox.start_over(conn, server_lost_something=False)
        self.pulls_begun += 1

    def forget_cached(self) -> None:
        """Reads the identity again at the next use; to be called after a write that changed it has committed."""
        with self._reading:
            self._current = None


def _identity_of(answer: EnrolAnswer, cloud_url: str) -> DeviceIdentity:
    return DeviceIdentity(Id(answer.device_id), Id(answer.school_id), answer.school_name, cloud_url, answer.server_epoch)


def _store(conn: sqlite3.Connection, identity: DeviceIdentity, server_keys: ServerKeys, incarnation: Id, now_ms: int) -> None:
    conn.execute("DELETE FROM identity")
    conn.execute(
        "INSERT INTO identity (one, device_id, school_id, school_name, cloud_url, server_epoch, instance, server_verify_key, server_seal_key,"
        " enrolled_at_ms) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identity.device_id,
            identity.school_id,
            identity.school_name,
            identity.cloud_url,
            identity.server_epoch,
            incarnation,
            *server_keys,
            now_ms,
        ),
    )
    outbox.start_incarnation(conn, incarnation, resend_all=True)
    inbox.start_over(conn)  # the server may be another than before
