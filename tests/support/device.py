"""A device for tests: a real SQLite file at head, enrolled, with a small invented course and two students, and the real API over it.

    Glasswork ── Cold work ── scoring (4 questions), snapping (3, needs scoring)
             └── Hot work ─── gathering (3), blowing (2; one is retired)      Hot work needs Cold work

Ada and Ben use the device, Cleo is only known by name, Dan is their teacher. Ids are derived from names, so that every run has the same.
"""

from __future__ import annotations

import atexit
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from daemon.access.apps import OWN_APP
from daemon.access.local_access import make_access
from daemon.access.sessions import Student
from daemon.api.app import create_app
from daemon.api.endpoints import Device
from daemon.bundles.exchange import DeviceBundles
from daemon.bundles.spool import SpooledBundles
from daemon.database import DeviceDatabase
from daemon.identity.device import Identity
from daemon.identity.enrolment import Enrolment
from daemon.learning.engine import Engine
from daemon.models import MODELS
from daemon.records import LocalRecords
from daemon.sync.on_demand import SyncOnDemand
from daemon.sync.round import SyncRound
from daemon.sync.verify import Verifier
from daemon.sync.verify_round import VerifyRound
from domain.clock import HybridClock
from domain.errors import CloudUnreachable
from domain.ids import Id, IdSource, derived_id
from domain.operations import CHAIN_START
from domain.wire import EnrolAnswer, EnrolRequest, Limits
from migrations.runner import upgrade_device

# Wednesday 2026-03-04, 10:00 UTC.
START_MS = 1_772_618_400_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CONTROL_TOKEN = "control-token-of-the-test"
APP_TOKEN = "app-token-of-the-test"
SCHOOL_ID = derived_id("school", "Glasswork school")
DEVICE_ID = derived_id("device", "desk 1")
GOOD_CODE = "GOOD-CODE"


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._monotonic_ms = 1_000_000

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._monotonic_ms

    def advance(self, ms: int) -> None:
        """Both clocks go on by so much."""
        self._now_ms += ms
        self._monotonic_ms += ms


def user_id(name: str) -> Id:
    return derived_id("user", name)


def topic_id(title: str) -> Id:
    return derived_id("topic", title)


def concept_id(title: str) -> Id:
    return derived_id("concept", title)


def question_id(concept: str, number: int) -> Id:
    return derived_id("question", concept, str(number))


ADA, BEN, CLEO, DAN = map(user_id, ("ada", "ben", "cleo", "dan"))
CLASS_ID = derived_id("class", "Glass 7b")
CONCEPTS = {"scoring": 4, "snapping": 3, "gathering": 3, "blowing": 2}
QUESTIONS = [question_id(concept, n) for concept, count in CONCEPTS.items() for n in range(count)]
RETIRED_QUESTION = question_id("blowing", 1)
_TOPIC_OF = {"scoring": "Cold work", "snapping": "Cold work", "gathering": "Hot work", "blowing": "Hot work"}


@cache
def _template() -> Path:
    """A migrated and seeded database file, made once per process."""
    folder = tempfile.mkdtemp(prefix="carrel-device-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "template.sqlite3"
    upgrade_device(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        _seed(conn)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def _seed(conn: sqlite3.Connection) -> None:
    conn.execute(
        "INSERT INTO identity (one, device_id, school_id, school_name, cloud_url, server_epoch, instance, enrolled_at_ms)"
        " VALUES (1, ?, ?, 'Glasswork school', 'http://127.0.0.1:9', 'epoch', ?, ?)",
        (DEVICE_ID, SCHOOL_ID, derived_id("instance"), START_MS),
    )
    conn.execute("INSERT INTO sync_progress (one, incarnation, chain) VALUES (1, ?, ?)", (derived_id("incarnation"), CHAIN_START.hex()))
    _insert(conn, "cursors", [(scope, 10) for scope in ("school", f"class:{CLASS_ID}", f"student:{ADA}", f"student:{BEN}")])
    people = (("ada", "Ada Ørsted"), ("ben", "Ben Okafor"), ("cleo", "Cleo Martin"))
    users = [(user_id(name), "student", name, shown, None, None, 1, None) for name, shown in people]
    _insert(conn, "users", [*users, (DAN, "teacher", "dan", "Dan Iversen", None, None, 1, None)])
    _insert(conn, "classes", [(CLASS_ID, "Glass 7b", None, None, 1, None)])
    members = [(derived_id("member", name), CLASS_ID, user_id(name), "student", 1, None) for name in ("ada", "ben")]
    _insert(conn, "class_members", [*members, (derived_id("member", "dan"), CLASS_ID, DAN, "teacher", 1, None)])
    _seed_course(conn)


def _seed_course(conn: sqlite3.Connection) -> None:
    root = topic_id("Glasswork")
    parts = [("Cold work", 1, 40.0), ("Hot work", 2, 60.0)]
    topics = [(topic_id(title), root, title, "chapter", position, weight, None, None, None, 1, None) for title, position, weight in parts]
    _insert(conn, "topics", [(root, None, "Glasswork", "subject", 0, None, None, None, None, 1, None), *topics])
    _insert(
        conn, "topic_prerequisites", [(derived_id("needs"), topic_id("Hot work"), topic_id("Cold work"), "a pane before a vase", 1, None)]
    )
    concepts = [(concept_id(c), json.dumps([topic_id(_TOPIC_OF[c])]), c, 0.9, None, None, 1, None) for c in CONCEPTS]
    _insert(conn, "concepts", concepts)
    for concept, count in CONCEPTS.items():
        for number in range(count):
            id_ = question_id(concept, number)
            retired_at_ms = START_MS if id_ == RETIRED_QUESTION else None
            row = (
                id_, topic_id(_TOPIC_OF[concept]), json.dumps([concept_id(concept)]), "multiple_choice", f"About {concept}, no. {number}?",
                json.dumps(["yes", "no"]), json.dumps(["yes"]), None, f"{concept}-{number}", retired_at_ms, 1, None,
            )  # fmt: skip
            _insert(conn, "questions", [row])


def _insert(conn: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Into the columns of the first migration; those of later ones stay as they are made."""
    width = len(rows[0])
    columns = [name for (name,) in conn.execute("SELECT name FROM pragma_table_info(?) LIMIT ?", (table, width))]
    conn.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * width)})", rows)


@dataclass(frozen=True)
class Settings:
    """The API's settings (daemon.api.endpoints.ApiSettings, daemon.access.local_access.SignInSettings)."""

    body_bytes_max: int = 256 * 1024
    requests_per_s: float = 1_000_000.0
    allowed_origins: tuple[str, ...] = ()
    idle_min: int = 15
    pin_days: int = 30
    single_student_without_pin: bool = False


class OfflineGateway:
    """A school that cannot be reached, but for one enrolment code."""

    poll_after_s: float | None = None

    def __init__(self) -> None:
        self.school_id: str = SCHOOL_ID

    def push(self, *_: Any) -> Any:
        raise CloudUnreachable("offline", "The school cannot be reached.")

    pull = verify = head = push

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        if request.code != GOOD_CODE:
            raise CloudUnreachable("refused", "The school does not know this code.", 404)
        return EnrolAnswer(
            derived_id("device", request.device_name), self.school_id, "Glasswork school", "device-token", "epoch-2", Limits()
        )

    renew_token = obeyed = sign_in = push

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class DeviceUnderTest:
    """The parts of a device that is open, and ways to use its API."""

    database: DeviceDatabase
    records: LocalRecords
    rounds: SyncRound
    gateway: OfflineGateway
    clock: ManualClock
    api: Device
    app: flask.Flask
    on_operation_calls: list[None] = field(default_factory=list)

    @property
    def client(self) -> FlaskClient:
        """A client without a session."""
        return self.app.test_client()

    def signed_in(self, student_id: Id = ADA) -> ApiClient:
        """A client with a session of this student, without the way there: that is for the tests of signing in.

        Ada is in the account's own app, everybody else in one of their own, where nobody's signing in ends their session.
        """
        access = self.api.access
        name = OWN_APP if student_id == ADA else f"app of {student_id}"
        app = next((a for a in access.apps.all() if a.name == name), None) or access.apps.get(name) or access.apps.add(name, ())[0]
        return ApiClient(self.client, access.sessions.start(Student(student_id, "", ""), app).token)

    def in_app(self) -> ApiClient:
        """A client with the token of the account's own app."""
        return ApiClient(self.client, APP_TOKEN)

    def controlling(self) -> ApiClient:
        """A client with the control token."""
        return ApiClient(self.client, CONTROL_TOKEN)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database holds."""
        with self.database.read() as conn:
            return conn.execute(sql, parameters).fetchall()

    def execute(self, sql: str, *parameters: Any) -> None:
        """Changes the database behind the API's back, as a pull does."""
        self.database.write(lambda conn: conn.execute(sql, parameters).rowcount)


class ApiClient:
    """Sends requests with a token; paths are those below /v1, with or without it, /metrics and the pages."""

    def __init__(self, client: FlaskClient, token: str) -> None:
        self._client = client
        self.token = token

    def request(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        whole = path if path == "/" or path.startswith(("/v1", "/metrics", "/pages")) else f"/v1{path}"
        return self._client.open(whole, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.request("POST", path, **options)

    def patch(self, path: str, **options: Any) -> TestResponse:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.request("DELETE", path, **options)


def seeded_database(folder: Path) -> Path:
    """The path of a fresh copy of the seeded database in `folder`."""
    path = folder / "device.sqlite3"
    shutil.copyfile(_template(), path)  # the template is closed: a plain copy is a whole one
    return path


@contextmanager
def open_device(folder: Path, settings: Settings | None = None, clock: ManualClock | None = None) -> Iterator[DeviceUnderTest]:
    """A device on a fresh seeded database in `folder`, closed at the end."""
    clock = clock or ManualClock()
    database, gateway, calls = DeviceDatabase(seeded_database(folder)), OfflineGateway(), list[None]()
    database.open(MODELS)
    ids = IdSource(clock.now_ms)
    identity = Identity(database, folder, clock, ids)
    (folder / "device.token").write_text("device-token")
    records = LocalRecords(database, clock, ids, HybridClock(clock), identity.device_id, lambda: calls.append(None))
    rounds = SyncRound(database, identity, clock, lambda url: gateway)
    on_demand = SyncOnDemand(lambda: rounds.run(forced=True))
    verifying = VerifyRound(rounds, Verifier(database, identity, clock), database, clock)
    api = Device(
        database=database,
        records=records,
        identity=Enrolment(identity, lambda url: gateway),
        sync_state=rounds.status,
        notices=list,
        sync=on_demand,
        verify=lambda content: verifying.run(content=content),
        bundles=SpooledBundles(DeviceBundles(database, identity, clock, rounds), folder),
        settings=settings or Settings(),
        clock=clock,
        access=make_access(
            database,
            folder,
            clock,
            ids,
            settings or Settings(),
            control_token=CONTROL_TOKEN,
            app_token=APP_TOKEN,
            own_origins=(settings or Settings()).allowed_origins,
        ),
        engine=Engine.of(database, records, clock),
        tally=rounds.tally,
    )
    try:
        yield DeviceUnderTest(database, records, rounds, gateway, clock, api, create_app(api), calls)
    finally:
        on_demand.close()
        database.close()


def attempt(question: str = QUESTIONS[0], *, correct: bool = True, **fields: Any) -> dict[str, Any]:
    """An attempt as an app reports it."""
    return {"question_id": question, "correct": correct, **fields}
