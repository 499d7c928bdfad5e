"""Three schools, their devices, teachers and administrators, doing whatever comes: nothing crosses a border."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from cloud_api.access import sessions
from cloud_api.analytics.tables import MASTERY, TABLES
from cloud_api.app import create_app
from cloud_api.config import CloudConfig, SignIn
from cloud_api.database import CloudDatabase
from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import Grant
from cloud_api.embedded import DatabaseServer
from cloud_api.people import MEMBERS, end_memberships
from cloud_api.publication import Publication, lock_for_editing, read_rows
from daemon.sync.push import encode_runs
from domain.bodies import to_json
from domain.ids import Id
from domain.operations import CHAIN_START, Operation
from domain.wire import ClockReading, PushRequest
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock
from tests.support.postgres import temporary_database

SCHOOLS, CLASSES, STEPS, EXAMPLES = 3, 2, 50, 5
number = st.integers(0, 1_000)
BOOT = "b" * 32


@dataclass
class Pupil:
    """Somebody whose answers are secrets: each has the pupil's name in it."""

    id: Id
    school: int
    in_class: int | None
    answers: int = 0

    @property
    def canary(self) -> str:
        return f"answer-of-{self.id}"


@dataclass
class Enrolled:
    """A device and what it was granted."""

    id: Id
    token: str
    school: int
    students: set[Id] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)
    revoked: bool = False


@dataclass
class Member:
    """A teacher of one class, or an administrator."""

    token: str
    school: int
    teaches: int | None


class Borders(RuleBasedStateMachine):
    """What each caller may see is worked out here from what was granted, and compared with what the server gives."""

    database: CloudDatabase

    @initialize()
    def open_schools(self) -> None:
        self.clock = ManualClock()
        self.client = create_app(CloudConfig(), self.database, self.clock).test_client()
        self.schools = [SchoolBuilder.build(self.database, self.clock) for _ in range(SCHOOLS)]
        self.classes: list[tuple[int, Id, str]] = []
        self.questions: list[Id] = []
        self.pupils: list[Pupil] = []
        self.devices: list[Enrolled] = []
        self.staff: list[Member] = []
        for at, school in enumerate(self.schools):
            self._furnish(at, school)

    def _furnish(self, at: int, school: SchoolBuilder) -> None:
        topic, question = school.ids.new(), school.ids.new()
        publication = Publication(school.id)
        for _ in range(CLASSES):
            class_id = school.ids.new()
            self.classes.append((at, class_id, f"class-{class_id}"))
            publication.put("classes", {"id": class_id, "name": f"class-{class_id}", "external_id": None, "retired_at_ms": None})
        with self.database.transaction() as cursor:
            lock_for_editing(cursor, school.id)
            cursor.execute(
                "INSERT INTO topics (school_id, id, title, level, position, feed_no) VALUES (%s, %s, 't', 'chapter', 1, 1);"
                "INSERT INTO questions (school_id, id, topic_id, concept_ids, kind, stem, answers, feed_no)"
                " VALUES (%s, %s, %s, '[]', 'text', 's', '[]', 1)",
                (school.id, topic, school.id, question, topic),
            )
            publication.write(cursor, self.clock.now_ms())
        self.questions.append(question)
        for role, taught in (("teacher", at * CLASSES), ("teacher", at * CLASSES + 1), ("admin", None)):
            names = (self.classes[taught][2],) if taught is not None else ()
            user = school.add_user(f"{role}-{taught}-{at}", role, names)
            with self.database.transaction(school=school.id) as cursor:
                token = sessions.start(cursor, school.id, user.id, self.clock.now_ms(), SignIn()).token
            self.staff.append(Member(token, at, taught))

    # --- what people do

    @rule(school=st.sampled_from((0, 0, 1, 2)), chosen=st.one_of(st.none(), st.integers(0, CLASSES - 1)))
    def a_student_comes(self, school: int, chosen: int | None) -> None:
        in_class = None if chosen is None else school * CLASSES + chosen
        names = (self.classes[in_class][2],) if in_class is not None else ()
        user = self.schools[school].add_user(f"student-{len(self.pupils)}", classes=names)
        self.pupils.append(Pupil(user.id, school, in_class))

    @precondition(lambda self: self.pupils)
    @rule(pick=number)
    def a_student_leaves_the_class(self, pick: int) -> None:
        pupil = self.pupils[pick % len(self.pupils)]
        school = self.schools[pupil.school]
        with self.database.transaction() as cursor:
            lock_for_editing(cursor, school.id)
            members = [row for row in read_rows(cursor, MEMBERS, school.id).values() if row["user_id"] == pupil.id]
            publication = Publication(school.id)
            end_memberships(cursor, publication, school.id, members, self.clock.now_ms())
            publication.write(cursor, self.clock.now_ms())
        pupil.in_class = None
        self.clock.advance(1_000)  # what is written from now on was written without a grant

    @precondition(lambda self: self.pupils)
    @rule(pick=number, whole_class=st.booleans())
    def a_device_is_enrolled(self, pick: int, whole_class: bool) -> None:
        pupil = self.pupils[pick % len(self.pupils)]
        of_class = self.classes[pupil.school * CLASSES + pick % CLASSES]
        grant = Grant("class", of_class[1]) if whole_class else Grant("student", pupil.id)
        code = self.schools[pupil.school].code(grant)
        answer = self.client.post("/v1/devices/enrol", json={"code": code, "device_name": "laptop"}).get_json()
        device = Enrolled(answer["device_id"].replace("-", ""), answer["token"], pupil.school)
        (device.classes.add(self.classes.index(of_class)) if whole_class else device.students.add(pupil.id))
        self.devices.append(device)

    @precondition(lambda self: self.devices)
    @rule(pick=number)
    def a_device_is_revoked(self, pick: int) -> None:
        device = self.devices[pick % len(self.devices)]
        school = self.schools[device.school]
        with self.database.transaction() as cursor:
            enrolled.revoke(cursor, school.ids, school.id, device.id, self.clock.now_ms())
        device.revoked = True

    # --- what devices send and get

    @precondition(lambda self: self.devices)
    @rule(device=number, pupil=number, elsewhere=st.booleans())
    def a_device_pushes_an_answer_of_somebody(self, device: int, pupil: int, elsewhere: bool) -> None:
        sender = self.devices[device % len(self.devices)]
        among = [one for one in self.pupils if elsewhere or one.school == sender.school]
        whose = among[pupil % len(among)]
        school = self.schools[sender.school]
        row, now_ms = school.ids.new(), self.clock.now_ms()
        payload = {
            "student_id": whose.id, "question_id": self.questions[sender.school], "answer": whose.canary, "correct": True,
            "answered_at_ms": now_ms, "active_ms": None, "confidence": None, "purpose": "free", "device_id": sender.id,
        }  # fmt: skip
        operation = Operation(1, row, "question_attempts", row, "insert", 1, 0, now_ms, 5, BOOT, json.dumps(payload))
        push = PushRequest(1, school.ids.new(), 1, CHAIN_START.hex(), ClockReading(now_ms, 5, BOOT), encode_runs([operation]))
        answer = self._post("/v1/sync/push", sender.token, to_json(push))
        if sender.revoked:
            assert answer.status_code == 403
            return
        refused = [verdict for verdict in answer.get_json()["verdicts"] if verdict["verdict"] == "rejected"]
        assert (not refused) == self._holds(sender, whose), answer.get_json()
        whose.answers += not refused

    @precondition(lambda self: self.devices)
    @rule(device=number, asked=number)
    def a_device_pulls_everything_and_asks_for_more(self, device: int, asked: int) -> None:
        reader = self.devices[device % len(self.devices)]
        somebody = self.pupils[asked % len(self.pupils)]
        scopes = {"school": 0, f"student:{somebody.id}": 0, f"class:{self.classes[asked % len(self.classes)][1]}": 0}
        pull = {"protocol": 1, "incarnation": self.schools[0].ids.new(), "cursors": scopes}
        answer = self._post("/v1/sync/pull", reader.token, json.dumps(pull).encode())
        if reader.revoked:
            assert answer.status_code == 403
            return
        told = answer.get_data(as_text=True)
        for pupil in self.pupils:
            assert (pupil.canary in told) == (self._holds(reader, pupil) and pupil.answers > 0)
        for scope in scopes:  # what was asked for is named as lost
            told = told.replace(scope, "") if scope != "school" else told
        self._demand_nothing_of_others(told, reader.school)

    # --- what teachers and administrators see

    @rule(member=number, of_class=number, figures=st.sampled_from([MASTERY, *TABLES]), as_csv=st.booleans())
    def somebody_looks_at_a_class(self, member: int, of_class: int, figures: str, as_csv: bool) -> None:
        who = self.staff[member % len(self.staff)]
        at = of_class % len(self.classes)
        answer = self.client.get(
            f"/v1/classes/{self.classes[at][1]}/{figures}{'.csv' if as_csv else ''}", headers={"Authorization": f"Bearer {who.token}"}
        )
        as_teacher, as_administrator = 200 if who.teaches == at else 403, 200 if self.classes[at][0] == who.school else 404
        assert answer.status_code == (as_administrator if who.teaches is None else as_teacher)
        self._demand_nothing_of_others(answer.get_data(as_text=True), who.school)

    def _post(self, path: str, token: str, body: bytes) -> Any:
        return self.client.post(path, data=body, content_type="application/json", headers={"Authorization": f"Bearer {token}"})

    def _holds(self, device: Enrolled, pupil: Pupil) -> bool:
        return device.school == pupil.school and (pupil.id in device.students or pupil.in_class in device.classes)

    def _demand_nothing_of_others(self, told: str, school: int) -> None:
        plain = told.replace("-", "")
        assert not [pupil for pupil in self.pupils if pupil.school != school and pupil.id in plain]
        assert not [name for at, _, name in self.classes if at != school and name in told]


@pytest.fixture(scope="module")
def database(postgres: DatabaseServer, cloud_template: str) -> Iterator[CloudDatabase]:
    with temporary_database(postgres, cloud_template) as url:
        opened = CloudDatabase(url)
        yield opened
        opened.close()


def test_nothing_crosses_a_border_whatever_devices_and_people_do(database: CloudDatabase) -> None:
    machine = type("Borders", (Borders,), {"database": database})
    # Another run has other ids, so nothing is found again by making it smaller.
    limits = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    run_state_machine_as_test(machine, settings=limits)
