"""Every route of the cloud API against everybody who may come: who gets in is a table, and a route without a place in it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from cloud_api.access.accounts import set_password
from cloud_api.analytics.tables import MASTERY, TABLES
from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import Grant
from cloud_api.embedded import DatabaseServer
from cloud_api.publication import Publication, lock_for_editing
from domain.ids import Id
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock
from tests.support.postgres import temporary_database

PASSWORD = "correct horse"
NOT_THERE = "0192f0c1-d2e3-7a4b-8c9d-0e1f2a3b4c5d"
# The codes by which somebody is kept out; whatever else a route answers, it has let the caller in.
KEPT_OUT = {"not_signed_in", "device_revoked", "forbidden", "csrf_refused"}
# Every name in the school, which nobody of another may see; and what of Ada's only those see who teach her or hold her data.
CANARY, ADAS = "canary", "canary-grade"
_DEVICES = ("her device", "device of another student", "device of another class", "device of another school")
_STAFF = ("her teacher", "another teacher", "a teacher elsewhere", "an administrator", "an administrator elsewhere")
OF_THE_SCHOOL = ("her device", "device of another student", "device of another class", "her teacher", "another teacher", "an administrator")
CALLERS = ("nobody", "a stranger", *_DEVICES, "a revoked device", *_STAFF, "somebody signed out")


class Gate(Enum):
    """What a route is for."""

    OPEN, DEVICE, REVOKED, STAFF, CLASS = range(5)

    def expected(self, caller: str) -> str:
        """`in`, or the code of the refusal."""
        return _WHO[self].get(caller, "not_signed_in")


_WHO = {
    Gate.OPEN: dict.fromkeys(CALLERS, "in"),
    Gate.DEVICE: dict.fromkeys(_DEVICES, "in") | {"a revoked device": "device_revoked"},
    Gate.REVOKED: {"a revoked device": "in"},
    Gate.STAFF: dict.fromkeys(_STAFF, "in"),
    # Administrators may see every class of their own school; of another there is none, which the route says.
    Gate.CLASS: {
        "her teacher": "in",
        "an administrator": "in",
        "another teacher": "forbidden",
        "a teacher elsewhere": "forbidden",
        "an administrator elsewhere": "in",
    },
}


@dataclass(frozen=True)
class Route:
    """What is sent to a route, and who may."""

    gate: Gate
    body: Any = None


_PULL = {"protocol": 1, "incarnation": NOT_THERE.replace("-", ""), "cursors": {}}
_CLASS_TABLES = [*TABLES, MASTERY, "students/<student_id>"]
ROUTES = {
    ("GET", "/healthz"): Route(Gate.OPEN),
    ("GET", "/readyz"): Route(Gate.OPEN),
    ("GET", "/v1/openapi.json"): Route(Gate.OPEN),
    ("POST", "/v1/devices/enrol"): Route(Gate.OPEN, {"code": "XXXX-XXXX-XXXX"}),
    ("POST", "/v1/sessions"): Route(Gate.OPEN, {"username": "canary-ada", "password": "wrong wrong"}),
    ("DELETE", "/v1/sessions"): Route(Gate.STAFF),
    ("POST", "/v1/devices/token"): Route(Gate.DEVICE),
    ("POST", "/v1/devices/obeyed"): Route(Gate.REVOKED, {"wiped": False}),
    ("POST", "/v1/devices/password"): Route(Gate.DEVICE, {"username": "canary-ada", "password": "wrong wrong"}),
    ("POST", "/v1/sync/push"): Route(Gate.DEVICE, {}),
    ("POST", "/v1/sync/pull"): Route(Gate.DEVICE, _PULL),
    ("POST", "/v1/sync/verify"): Route(
        Gate.DEVICE, {"protocol": 1, "incarnation": _PULL["incarnation"], "places": [{"scope": "school", "table": "topics", "cursor": 0}]}
    ),
    ("GET", "/v1/sync/head"): Route(Gate.DEVICE),
} | {("GET", f"/v1/classes/<class_id>/{name}{csv}"): Route(Gate.CLASS) for name in _CLASS_TABLES for csv in ("", ".csv")}


@dataclass(frozen=True)
class World:
    """Two schools on one server, and the headers of everybody."""

    app: Flask
    database: CloudDatabase
    ada: Id
    class_id: Id
    headers: dict[str, dict[str, str]]

    def send(self, caller: str, method: str, rule: str, body: Any) -> Any:
        client: FlaskClient = self.app.test_client()
        path = rule.replace("<class_id>", self.class_id).replace("<student_id>", self.ada)
        options = {"json": body} if body is not None else {}
        return client.open(path, method=method, headers=self.headers[caller], **options)

    def rows(self) -> dict[str, str]:
        """A checksum of every table but those that count tries, uses and refusals."""
        noted = ("wrong_tries", "user_sessions", "audit_log", "migration_history")
        with self.database.transaction(snapshot=True) as cursor:
            cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
            tables = [table for (table,) in cursor.fetchall() if table not in noted]
            found = {}
            for table in sorted(tables):
                cursor.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t")
                found[table] = str(cursor.fetchone())
            return found


def filled_school(database: CloudDatabase, clock: ManualClock, prefix: str) -> tuple[SchoolBuilder, dict[str, Id]]:
    school = SchoolBuilder.build(database, clock)
    names = {"a": f"{prefix}-a", "b": f"{prefix}-b"}
    publication, classes = Publication(school.id), {key: school.ids.new() for key in names}
    for key, name in names.items():
        publication.put("classes", {"id": classes[key], "name": name, "external_id": name, "retired_at_ms": None})
    with database.transaction() as cursor:
        lock_for_editing(cursor, school.id)
        publication.write(cursor, clock.now_ms())
    people = {"ada": ("student", "a"), "ben": ("student", "b"), "grace": ("teacher", "a"), "alan": ("teacher", "b"), "root": ("admin", "")}
    found: dict[str, Id] = dict(classes)
    for username, (role, key) in people.items():
        name = f"{prefix}-{username}"
        found[username] = school.add_user(name, role, (names[key],) if key else ()).id
        if role != "student":
            set_password(database, clock, school.ids, school.id, name, PASSWORD)
    return school, found


@pytest.fixture(scope="module")
def world(postgres: DatabaseServer, cloud_template: str) -> Iterator[World]:
    with temporary_database(postgres, cloud_template) as url:
        database, clock = CloudDatabase(url), ManualClock()
        app = create_app(CloudConfig(), database, clock)
        yield populated(app, database, clock)
        database.close()


def populated(app: Flask, database: CloudDatabase, clock: ManualClock) -> World:
    school, people = filled_school(database, clock, CANARY)
    elsewhere, others = filled_school(database, clock, "elsewhere")
    with database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO student_profiles (school_id, id, grade, feed_no) VALUES (%s, %s, %s, 1)", (school.id, people["ada"], ADAS)
        )

    def session(of: SchoolBuilder, username: str) -> dict[str, str]:
        sent = {"school": of.id, "username": username, "password": PASSWORD}
        return {"Authorization": f"Bearer {app.test_client().post('/v1/sessions', json=sent).get_json()['token']}"}

    def device(of: SchoolBuilder, *grants: Grant) -> dict[str, str]:
        return {"Authorization": f"Bearer {of.enrol(*grants).token}"}

    revoked = school.enrol(Grant("student", people["ada"]))
    with database.transaction() as cursor:
        enrolled.revoke(cursor, school.ids, school.id, revoked.id, clock.now_ms())
    signed_out = session(school, "canary-grace")
    app.test_client().delete("/v1/sessions", headers=signed_out)
    headers = {
        "nobody": {},
        "a stranger": {"Authorization": "Bearer " + "x" * 43},
        "her device": device(school, Grant("student", people["ada"])),
        "device of another student": device(school, Grant("student", people["ben"])),
        "device of another class": device(school, Grant("class", people["b"])),
        "device of another school": device(elsewhere, Grant("class", others["a"])),
        "a revoked device": {"Authorization": f"Bearer {revoked.token}"},
        "her teacher": session(school, "canary-grace"),
        "another teacher": session(school, "canary-alan"),
        "a teacher elsewhere": session(elsewhere, "elsewhere-grace"),
        "an administrator": session(school, "canary-root"),
        "an administrator elsewhere": session(elsewhere, "elsewhere-root"),
        "somebody signed out": signed_out,
    }
    return World(app, database, people["ada"], people["a"], headers)


def outcome(answer: Any) -> str:
    code = answer.get_json()["code"] if answer.mimetype == "application/problem+json" else ""
    return code if code in KEPT_OUT else "in"


def test_every_route_has_its_place_in_the_table_and_no_other_has(world: World) -> None:
    """Who may see which page is held by tests/pages; who may read the figures of the server, by tests/integration/cloud/test_metrics.py."""
    api = [rule for rule in world.app.url_map.iter_rules() if not rule.rule.startswith("/pages") and rule.rule not in ("/", "/metrics")]
    rules = {(method, rule.rule) for rule in api for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert rules == ROUTES.keys()
    assert set(world.headers) == set(CALLERS)


@pytest.mark.parametrize(("method", "rule"), ROUTES, ids=lambda part: part.replace("/", " ").strip())
def test_a_route_lets_in_whom_it_is_for_and_nobody_else(world: World, method: str, rule: str) -> None:
    route = ROUTES[method, rule]
    callers = [
        caller for caller in CALLERS if not (method == "DELETE" and route.gate.expected(caller) == "in")
    ]  # those sessions are needed still
    before = world.rows()
    found = {}
    for caller in callers:
        answer = world.send(caller, method, rule, route.body)
        found[caller] = outcome(answer)
        assert answer.status_code < 500, (caller, answer.get_data(as_text=True))
        told = answer.get_data(as_text=True)
        if caller not in ("her device", "her teacher", "an administrator"):
            assert ADAS not in told, caller
        if caller not in OF_THE_SCHOOL:
            assert CANARY not in told, caller
        if found[caller] != "in":
            assert world.rows() == before, caller
        before = world.rows()
    assert found == {caller: route.gate.expected(caller) for caller in callers}


def test_a_teacher_reads_a_student_through_a_class_that_has_the_student_and_no_other(world: World) -> None:
    """The classes are the teacher's own in both cases."""
    with world.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT id FROM users WHERE username = 'canary-ben'")
        (ben,) = cursor.fetchone()  # type: ignore[misc]
    client = world.app.test_client()
    for student, status in ((world.ada, 200), (ben, 404), (NOT_THERE, 404), ("nobody", 404)):
        answer = client.get(f"/v1/classes/{world.class_id}/students/{student}", headers=world.headers["her teacher"])
        assert answer.status_code == status, json.dumps(answer.get_json())


@pytest.mark.parametrize(
    "hostile", ["'; DROP TABLE users; --", "1 OR 1=1", "%s", "%(school)s", "\\", "${x}", "0" * 10_000, "\u202e", "a\x00b"]
)
def test_hostile_identifiers_are_no_identifiers_and_never_reach_sql(world: World, hostile: str) -> None:
    client, before = world.app.test_client(), world.rows()
    device, teacher = world.headers["her device"], world.headers["her teacher"]
    tried = [
        client.get("/v1/classes/" + hostile.replace("\x00", "%00").replace("%s", "%25s") + "/mastery", headers=teacher),
        client.post("/v1/sync/pull", json=_PULL | {"cursors": {hostile: 0}}, headers=device),
        client.post("/v1/sync/pull", json=_PULL | {"incarnation": hostile}, headers=device),
        client.post(
            "/v1/sync/pull", json=_PULL | {"cursors": {"school": 0, f"student:{hostile}": 0}, "filling": [hostile]}, headers=device
        ),
        client.post("/v1/sync/verify", json={"protocol": 1, "incarnation": hostile, "places": []}, headers=device),
        client.post("/v1/devices/enrol", json={"code": hostile, "device_name": hostile}),
        client.post("/v1/devices/password", json={"username": hostile, "password": hostile}, headers=device),
        client.post("/v1/sessions", json={"username": hostile, "password": hostile, "school": hostile}),
    ]
    assert [answer.status_code for answer in tried if answer.status_code >= 500] == []
    assert world.rows() == before
