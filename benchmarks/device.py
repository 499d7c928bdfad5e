"""A device's state folder opened in this process: the daemon's own parts, without its server and its schedule."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study import Question, answered
from daemon.config import DATABASE_NAME
from daemon.database import DeviceDatabase
from daemon.gateway import HttpGateway
from daemon.identity.device import DeviceIdentity, Identity
from daemon.identity.enrolment import Enrolment
from daemon.models import MODELS
from daemon.records import LocalRecords, NewAttempt
from daemon.sync.pull import Puller
from daemon.sync.push import Pusher
from daemon.sync.round import RoundResult, SyncRound
from daemon.sync.server_time import ServerTime
from domain.clock import Clock, HybridClock, SystemClock
from domain.errors import OperatorError
from domain.ids import Id, IdSource
from domain.wire import Limits

# Attempts that an app reports together: a quiz.
SHEET_ATTEMPTS = 20


class ReplayClock:
    """A clock that stands at the time of the study record being replayed."""

    def __init__(self) -> None:
        self.at_ms = 1

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


@dataclass(frozen=True, slots=True)
class OpenDevice:
    """An enrolled device that is open. `clock` stamps what it records."""

    database: DeviceDatabase
    identity: Identity
    rounds: SyncRound
    clock: Clock

    def sync(self) -> RoundResult:
        """One round. Raises OperatorError unless it came through."""
        result = self.rounds.run(forced=True)
        if result.outcome != "done":
            raise OperatorError(f"The sync round did not come through: {result.outcome}, {result.message}")
        return result

    def enrolled(self) -> DeviceIdentity:
        """Who this device is. Raises OperatorError before it was enrolled."""
        if (identity := self.identity.current()) is None:
            raise OperatorError("This device is not enrolled.")
        return identity

    def pusher(self, limits: Limits) -> Pusher:
        """One that begins with these limits; the server's answers change them."""
        return Pusher(self.database, self.identity, self.clock, ServerTime(self.clock), limits)

    def puller(self, page_rows: int) -> Puller:
        """One that asks for pages of so many rows."""
        return Puller(self.database, self.identity, self.clock, ServerTime(self.clock), page_rows)

    def students(self) -> list[Id]:
        """The students whose scopes this device follows."""
        with self.database.read() as conn:
            rows = conn.execute("SELECT substr(scope, 9) FROM cursors WHERE scope LIKE 'student:%' ORDER BY scope").fetchall()
        return [Id(row[0]) for row in rows]

    def questions(self) -> list[Question]:
        """The course's questions; the wrong answer is another choice, or the next question's answer."""
        with self.database.read() as conn:
            rows = conn.execute("SELECT id, choices, answers FROM questions WHERE retired_at_ms IS NULL ORDER BY id").fetchall()
        rights = [str(json.loads(answers)[0]) for _, _, answers in rows]
        return [
            Question(Id(id_), right, next((c for c in json.loads(choices or "[]") if c != right), following))
            for (id_, choices, _), right, following in zip(rows, rights, [*rights[1:], rights[0]], strict=True)
        ]

    def study(self, count: int, students: list[Id], at_once: int = SHEET_ATTEMPTS) -> None:
        """Records `count` attempts of real study records, made in turn by the students, `at_once` in a transaction, at the record's time."""
        clock = ReplayClock()
        records = self._records(clock)
        sheets: dict[int, list[NewAttempt]] = {}
        for number, answer in enumerate(answered(count, self.questions(), len(students))):
            clock.at_ms = answer.at_ms
            sheet = sheets.setdefault(answer.student, [])
            sheet.append(answer.attempt)
            if len(sheet) == at_once or count - number <= len(students):
                records.record_attempts(students[answer.student], sheets.pop(answer.student))

    def record(self, attempts: list[NewAttempt]) -> None:
        """Records attempts of the first student now."""
        self._records(self.clock).record_attempts(self.students()[0], attempts)

    def _records(self, clock: Clock) -> LocalRecords:
        return LocalRecords(self.database, clock, IdSource(clock.now_ms), HybridClock(clock), self.identity.device_id)


@contextmanager
def open_device(folder: Path) -> Iterator[OpenDevice]:
    """The device of a state folder whose database is migrated. No daemon may run in it."""
    clock = SystemClock()
    database = DeviceDatabase(folder / DATABASE_NAME)
    database.open(MODELS)
    try:
        identity = Identity(database, folder, clock, IdSource(clock.now_ms))
        yield OpenDevice(database, identity, SyncRound(database, identity, clock, HttpGateway), clock)
    finally:
        database.close()


def enrol(device: OpenDevice, cloud_url: str, code: str) -> None:
    """Redeems an enrolment code."""
    Enrolment(device.identity, HttpGateway).enrol(cloud_url, code, "benchmark")


def point_to(folder: Path, cloud_url: str) -> None:
    """Makes a closed device's school be found at another address, where a copy of its server listens."""
    with closing(sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)) as conn:
        conn.execute("UPDATE identity SET cloud_url = ?", (cloud_url,))
