"""Both APIs answer whatever is sent as their descriptions say: no 5xx, no answer that is not described, nothing taken that should be refused, nothing
refused that should be taken. Each operation is asked by everybody whom it is for, with all checks that schemathesis has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis import Case

from cloud_api.access import sessions
from cloud_api.access.accounts import set_password
from cloud_api.access.doorkeeper import CSRF_HEADER, SECURE_COOKIE, csrf_token
from cloud_api.config import SignIn
from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import Grant
from cloud_api.people import User
from cloud_api.publication import Publication, lock_for_editing
from daemon.bundles.spool import INCOMING, lay_down
from daemon.sync.push import encode_runs
from domain.bodies import to_json
from domain.bundle import FromSchool
from domain.ids import Id, dashed
from domain.operations import CHAIN_START, Operation
from tests.support.cloud import SchoolBuilder
from tests.support.described import Known, all_of, ask_everything, bearer, body, is_good, path, query
from tests.support.device import ADA, CONTROL_TOKEN, GOOD_CODE, QUESTIONS, DeviceUnderTest, attempt, concept_id, open_device

PIN, PASSWORD = "2718", "correct horse"
# So many, and another comes: enrolling takes time, and a log that has begun cannot begin anew.
REQUESTS_OF_A_DEVICE = 10
ORIGIN = "http://127.0.0.1:4000"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    with open_device(tmp_path) as opened:
        yield opened


def known_questions(case: Case[Any]) -> None:
    """Answers are to questions that this device has."""
    if is_good(case):
        given: Any = case.body
        for one in given.get("attempts", [given]) if isinstance(given, dict) else given:
            one["question_id"] = QUESTIONS[0]


def nothing_is_moved(case: Case[Any]) -> None:
    """`moved_to` goes with one status alone, and is a day to come."""
    given: Any = case.body
    if is_good(case) and (given["status"] == "moved" or given.get("moved_to")):
        case.body = given | {"status": "skipped", "moved_to": None}


@pytest.mark.parametrize("part", [{"method": "GET"}, {"method": ["POST", "PATCH", "DELETE"]}], ids=["reading", "writing"])
def test_the_localhost_api_answers_as_described(device: DeviceUnderTest, part: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", device.app).include(**part)
    access, numbers, folder = device.api.access, count(), device.database.path.parent
    access.sign_in.set_pin(ADA, PIN)
    page, page_token = access.apps.add("a page", (ORIGIN,))
    ada = device.signed_in()
    ada.post("/attempts", json=attempt())
    ada.post("/plan")
    operation = device.rows("SELECT op_id FROM sync_operations LIMIT 1")[0][0]
    askers = {
        "nobody": dict,
        "app": lambda: bearer(page_token),
        "control": lambda: bearer(CONTROL_TOKEN),
        "session": lambda: bearer(device.signed_in().token),
        "a page": lambda: {"headers": {"Origin": ORIGIN}},
    }

    def newest_item() -> str:
        """Of the plan that counts. What was asked for before may have left it without items."""
        ada = device.signed_in()
        items = ada.get("/plan").get_json()["items"]
        if not items:
            ada.patch("/me/profile", json={"available_minutes": [60] * 7, "days_off": [], "exam_on": None})
            items = ada.post("/plan").get_json()["items"]
        return str(items[0]["id"])

    def who(operation: Any) -> list[str]:
        if operation.label == "POST /v1/launches/redeem":
            return ["a page"]
        return [name for choice in operation.definition.raw["security"] for name in choice] or ["nobody"]

    own = query(student_id=dashed(ADA), cursor=None)  # a cursor is one that was given here
    known: dict[str, Known] = {
        "POST /v1/sessions": body(student_id=dashed(ADA), pin=PIN, username=None, password=None),
        "POST /v1/students/{id}/pin": path(id=ADA),
        "DELETE /v1/apps/{id}": path(id=lambda: access.apps.add(f"app {next(numbers)}", ())[0].id),
        "POST /v1/launches": body(app_id=dashed(page.id)),
        "POST /v1/launches/redeem": body(code=lambda: access.launch_codes.issue(page)),
        "GET /v1/questions/{id}": path(id=QUESTIONS[0]),
        "GET /v1/mastery/{id}": path(id=concept_id("scoring")),
        "PATCH /v1/me/profile": body(exam_on=None),  # no schema can state which days are over
        "POST /v1/attempts": known_questions,
        "PATCH /v1/plan/items/{id}": all_of(path(id=newest_item), nothing_is_moved),
        "GET /v1/sync/operations/{id}": path(id=operation),
        "POST /v1/sync/bundle/import": lambda case: lay_down(folder, INCOMING, to_json(FromSchool("epoch"))),
        "POST /v1/enrol": body(code=GOOD_CODE),
    }
    asked = ask_everything(schema, askers, who, lambda label: all_of(own, known.get(label, lambda case: None)))
    assert not asked.wrong, asked.told()
    assert asked.never_done == set()


@dataclass(frozen=True)
class Campus:
    """A school with a class, its teacher, a student and an administrator; and everybody who may come."""

    school: SchoolBuilder
    class_id: Id
    people: dict[str, User]

    @classmethod
    def of(cls, school: SchoolBuilder) -> Campus:
        class_ = school.ids.new()
        publication = Publication(school.id)
        publication.put("classes", {"id": class_, "name": "7b", "external_id": "7b", "retired_at_ms": None})
        with school.database.transaction() as cursor:
            lock_for_editing(cursor, school.id)
            publication.write(cursor, school.clock.now_ms())
        roles = {"ada": "student", "grace": "teacher", "root": "admin"}
        people = {name: school.add_user(name, role, () if role == "admin" else ("7b",)) for name, role in roles.items()}
        for name in people:
            set_password(school.database, school.clock, school.ids, school.id, name, PASSWORD)
        return cls(school, class_, people)

    def session(self, name: str) -> str:
        """The token of somebody who has just signed in."""
        with self.school.database.transaction() as cursor:
            return sessions.start(cursor, self.school.id, self.people[name].id, self.school.clock.now_ms(), SignIn()).token

    def device(self, *, revoked: bool = False) -> str:
        """The token of a device for Ada."""
        device = self.school.enrol(Grant("class", self.class_id), Grant("student", self.people["ada"].id))
        if revoked:
            with self.school.database.transaction() as cursor:
                enrolled.revoke(cursor, self.school.ids, self.school.id, device.id, self.school.clock.now_ms())
        return device.token

    def page(self) -> dict[str, Any]:
        """What a page of this server sends in the administrator's browser."""
        token = self.session("root")
        return {"cookies": {SECURE_COOKIE: token}, "headers": {CSRF_HEADER: csrf_token(token)}, "base_url": "https://localhost"}

    def pushed(self) -> list[Any]:
        """An answer of Ada's as a run."""
        row, now_ms = self.school.ids.new(), self.school.clock.now_ms()
        payload = {"student_id": self.people["ada"].id, "question_id": row, "correct": True, "answered_at_ms": now_ms, "purpose": "free"}
        operation = Operation(1, row, "question_attempts", row, "insert", 1, 0, now_ms, 5, "b" * 32, json.dumps(payload))
        return json.loads(to_json(encode_runs([operation])))  # type: ignore[no-any-return]


def keys_come_in_pairs(case: Case[Any]) -> None:
    """A device has both keys or none."""
    given: Any = case.body
    if is_good(case) and not all(given.get(name) for name in ("verify_key", "seal_key")):
        case.body = given | {"verify_key": "", "seal_key": ""}


PARTS = {
    "sync and sign-in": {"path_regex": "^(?!/v1/classes/)"},
    "figures of classes": {"path_regex": "^/v1/classes/(?!.*csv)"},
    "their files": {"path_regex": "^/v1/classes/.*csv"},
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_the_cloud_api_answers_as_described(flask_cloud: Flask, cloud_school: SchoolBuilder, part: dict[str, Any]) -> None:
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", flask_cloud).include(**part)
    campus = Campus.of(cloud_school)
    ada = campus.people["ada"]
    code = cloud_school.code(Grant("student", ada.id), uses=1_000)
    tokens = (token for _ in count() for token in repeat(campus.device(), REQUESTS_OF_A_DEVICE))
    askers = {
        "nobody": dict,
        "device": lambda: bearer(next(tokens)),
        "a revoked device": lambda: bearer(campus.device(revoked=True)),
        "a teacher": lambda: bearer(campus.session("grace")),
        "an administrator": lambda: bearer(campus.session("root")),
        "page": campus.page,
    }

    def who(operation: Any) -> list[str]:
        if operation.label == "POST /v1/devices/obeyed":
            return ["a revoked device"]
        choices = [name for choice in operation.definition.raw.get("security", ()) for name in choice] or ["nobody"]
        return [asker for name in choices for asker in (("a teacher", "an administrator") if name == "user" else (name,))]

    start: dict[str, Known] = {
        "POST /v1/devices/enrol": all_of(keys_come_in_pairs, body(code=code)),
        "POST /v1/sync/push": body(runs=campus.pushed, first_seq=1, chain=CHAIN_START.hex()),
        "POST /v1/sync/verify": body(places=[{"scope": "school", "table": "topics", "cursor": 0}]),
        "POST /v1/sync/pull": body(cursors={"school": 0}),
        "POST /v1/devices/password": body(username="ada", password=PASSWORD),
        "POST /v1/sessions": body(username="grace", password=PASSWORD, school=cloud_school.id),
    }
    in_class = path(class_id=campus.class_id, student_id=ada.id)
    asked = ask_everything(schema, askers, who, lambda label: start.get(label, in_class if "{class_id}" in label else lambda case: None))
    assert not asked.wrong, asked.told()
    assert asked.never_done == set()
