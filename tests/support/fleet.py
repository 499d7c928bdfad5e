"""Devices of a school for sync tests: real SQLite files, the product's own sync, real HTTP to the school's server."""

from __future__ import annotations

import atexit
import random
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from daemon.database import DeviceDatabase
from daemon.gateway import HttpGateway
from daemon.identity.device import Identity
from daemon.identity.keys import DeviceKeys
from daemon.models import MODELS
from daemon.records import LocalRecords, NewAttempt
from daemon.sync.round import SyncRound
from domain.clock import HybridClock, SystemClock
from domain.errors import CloudUnreachable
from domain.ids import Id, IdSource
from domain.registry import TABLES
from domain.wire import EnrolAnswer, Limits, PullAnswer, PullRequest, PushAnswer, PushRequest
from migrations.runner import upgrade_device
from tests.support.cloud import SchoolBuilder


@cache
def migrated_file() -> Path:
    """An empty device's database at head, made once per process; to be copied."""
    folder = Path(tempfile.mkdtemp(prefix="carrel-fleet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    upgrade_device(folder / "device.sqlite3")
    return folder / "device.sqlite3"


class LossyGateway(HttpGateway):
    """The real gateway with a switch: the next answers to a push are lost after the server has settled it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lose_answers = 0
        self.requests: list[PushRequest | PullRequest] = []
        self.before_push: Callable[[PushRequest], PushRequest] = lambda request: request

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        request = self.before_push(request)
        self.requests.append(request)
        answer = super().push(token, request)
        if self.lose_answers:
            self.lose_answers -= 1
            raise CloudUnreachable("bad_answer", "lost on the way")
        return answer

    def pull(self, token: str, request: PullRequest) -> PullAnswer:
        self.requests.append(request)
        return super().pull(token, request)


class ShiftedClock(SystemClock):
    """This machine's clock with the wall clock set wrong by `ahead_ms`."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@dataclass
class SyncedDevice:
    """One enrolled device and what a test does with it."""

    database: DeviceDatabase
    identity: Identity
    records: LocalRecords
    rounds: SyncRound
    gateway: LossyGateway
    id: Id
    folder: Path
    clock: ShiftedClock

    def sync(self) -> Any:
        """One round, whatever the backoff says."""
        return self.rounds.run(forced=True)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.read() as conn:
            return conn.execute(sql, parameters).fetchall()

    def value(self, sql: str, *parameters: Any) -> Any:
        return self.rows(sql, *parameters)[0][0]

    def change(self, sql: str, *parameters: Any) -> None:
        """Changes the file behind the product's back."""
        self.database.write(lambda conn: conn.execute(sql, parameters).rowcount)

    def copied(self) -> Path:
        """A folder with a copy of this device's file and token, made through SQLite as a backup is."""
        folder = self.folder.with_name(secrets.token_hex(8))
        folder.mkdir()
        (folder / "device.token").write_text((self.folder / "device.token").read_text())
        with closing(sqlite3.connect(folder / "device.sqlite3")) as copy, self.database.read() as conn:
            conn.backup(copy)
        return folder

    def synced_rows(self, table: str) -> list[tuple[Any, ...]]:
        """The registry's columns of every row of a table, by id."""
        return self.rows(f"SELECT {', '.join(TABLES[table].column_names)} FROM {table} ORDER BY id")


@dataclass
class Fleet:
    """A school with its server at `url`, `questions` of a tiny course, and devices that are closed at the end."""

    school: SchoolBuilder
    url: str
    tmp_path: Path
    questions: list[Id]
    concepts: list[Id]
    closing: ExitStack
    randomness: random.Random = field(default_factory=lambda: random.Random(7))

    def device(self, *grants: Grant) -> SyncedDevice:
        """A new device with these grants."""
        enrolled = self.school.enrol(*grants)
        folder = self.tmp_path / enrolled.id
        folder.mkdir()
        shutil.copyfile(migrated_file(), folder / "device.sqlite3")
        return self.open(folder, EnrolAnswer(enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token, self.epoch(), Limits()))

    def open(self, folder: Path, enrolment: EnrolAnswer | None = None, keys: DeviceKeys | None = None) -> SyncedDevice:
        """Opens the device in a folder, as a daemon that starts there would."""
        clock = ShiftedClock()
        ids = IdSource(clock.now_ms)
        database = DeviceDatabase(folder / "device.sqlite3")
        database.open(MODELS)
        self.closing.callback(database.close)
        identity = Identity(database, folder, clock, ids)
        if enrolment:
            identity.adopt(enrolment, self.url, keys)
        gateway = LossyGateway(self.url)
        self.closing.callback(gateway.close)
        rounds = SyncRound(database, identity, clock, lambda url: gateway)
        records = LocalRecords(database, clock, ids, HybridClock(clock), identity.device_id)
        return SyncedDevice(database, identity, records, rounds, gateway, identity.device_id(), folder, clock)

    def add_class(self, name: str) -> Id:
        class_id = self.school.ids.new()
        publication = Publication(self.school.id)
        publication.put("classes", {"id": class_id, "name": name, "external_id": name, "retired_at_ms": None})
        with self.school.database.transaction() as cursor:
            publication.write(cursor, self.school.clock.now_ms())
        return class_id

    def edit(self, change: Callable[[Publication, Any], object]) -> None:
        """A change of the school's own; `change` is given what publishes it, and the cursor."""
        publication = Publication(self.school.id)
        with self.school.database.transaction() as cursor:
            change(publication, cursor)
            publication.write(cursor, self.school.clock.now_ms())

    def epoch(self) -> str:
        return str(self.school.value("SELECT epoch FROM server_state"))

    def attempts(self, count: int, **fields: Any) -> list[NewAttempt]:
        """Invented answers to questions of the course."""
        draw = self.randomness
        return [
            NewAttempt(**{"question_id": draw.choice(self.questions), "correct": draw.random() < 0.7, "purpose": "free", **fields})
            for _ in range(count)
        ]

    def server_rows(self, table: str) -> list[tuple[Any, ...]]:
        """The same columns of the same rows on the server."""
        with self.school.database.transaction(read_only=True) as cursor:
            cursor.execute(
                f"SELECT {', '.join(TABLES[table].column_names)} FROM {table} WHERE school_id = %s ORDER BY id", (self.school.id,)
            )
            return list(cursor.fetchall())

    def server(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.school.database.transaction() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []


def as_sqlite(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows from PostgreSQL with truth values as SQLite keeps them."""
    return [tuple(int(v) if isinstance(v, bool) else v for v in row) for row in rows]


@contextmanager
def running_fleet(school: SchoolBuilder, url: str, tmp_path: Path, questions: int = 20) -> Iterator[Fleet]:
    """A school with a course of one topic, two concepts and some questions."""
    topic, concepts = school.ids.new(), [school.ids.new() for _ in range(2)]
    ids = [school.ids.new() for _ in range(questions)]
    with school.database.transaction() as cursor:
        cursor.execute("UPDATE schools SET head = head + %s WHERE id = %s RETURNING head", (questions + 3, school.id))
        ((head,),) = cursor.fetchall()
        feed_no = head - questions - 2
        cursor.execute(
            "INSERT INTO topics (school_id, id, title, level, position, feed_no) VALUES (%s, %s, 'Knots', 'lesson', 1, %s)",
            (school.id, topic, feed_no),
        )
        for at, concept in enumerate(concepts, 1):
            cursor.execute(
                "INSERT INTO concepts (school_id, id, topic_ids, title, mastery_threshold, feed_no)"
                " VALUES (%s, %s, jsonb_build_array(%s::text), %s, 0.85, %s)",
                (school.id, concept, topic, f"concept {at}", feed_no + at),
            )
        for at, question in enumerate(ids, 3):
            cursor.execute(
                "INSERT INTO questions (school_id, id, topic_id, concept_ids, kind, stem, answers, feed_no)"
                " VALUES (%s, %s, %s, jsonb_build_array(%s::text), 'short_text', %s, '[\"yes\"]', %s)",
                (school.id, question, topic, concepts[at % 2], f"Question {at}?", feed_no + at),
            )
    with ExitStack() as closing:
        yield Fleet(school, url, tmp_path, ids, concepts, closing)
