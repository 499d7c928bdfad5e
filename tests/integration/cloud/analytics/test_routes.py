"""The figures of a class over the API: who gets them, in which shape."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from tests.security.cloud.staff import Staffroom
from tests.support.classroom import Classroom, Given

TABLES = ["mastery", "needs-help", "items", "wrong-answers", "time", "curves", "groups", "off-plan", "out-of-reach"]


@pytest.fixture
def staff(room: Classroom) -> Staffroom:
    """Grace teaches 7b, Hal another class; there is an administrator, and Ada has a password."""
    app = create_app(CloudConfig(), room.school.database, room.clock)
    school = replace(room.school, clock=room.clock)
    people = Staffroom(app, school)
    room.other_class("8a")
    people.add("grace", "teacher", classes=("7b",))
    people.add("hal", "teacher", classes=("8a",))
    people.add("root", "admin")
    people.add("zoe", "student")
    return people


def get(staff: Staffroom, username: str, path: str, **headers: str) -> Any:
    return staff.app.test_client().get(path, headers=staff.token(username) | headers)


def addresses(room: Classroom) -> list[str]:
    paths = [*TABLES, f"students/{room.ids['ada']}"]
    return [f"/v1/classes/{room.class_id}/{path}{end}" for path in paths for end in ("", ".csv")]


def test_only_teachers_of_the_class_and_administrators_get_anything(room: Classroom, staff: Staffroom) -> None:
    grace, hal, root = (staff.token(name) for name in ("grace", "hal", "root"))
    device = {"Authorization": f"Bearer {room.school.enrol(room.grant('ada')).token}"}
    client = staff.app.test_client()
    for path in addresses(room):
        answers = [client.get(path, headers=headers) for headers in (grace, root, hal, device, {})]
        assert [answer.status_code for answer in answers] == [200, 200, 403, 401, 401], path
        assert b"Ada" not in b"".join(answer.data for answer in answers[2:])
    student = staff.post("zoe")
    assert student.status_code == 403


def test_every_table_of_the_application_is_tried(staff: Staffroom, flask_cloud: Flask) -> None:
    routed = {rule.rule for rule in flask_cloud.url_map.iter_rules() if rule.rule.startswith("/v1/classes/")}
    assert {re.sub(r"<class_id>/|/v1/classes/|\.csv", "", path) for path in routed} == {*TABLES, "students/<student_id>"}


def test_the_heat_map_pages_through_students_with_dashed_ids(room: Classroom, staff: Staffroom) -> None:
    room.answer([Given("ada", f"halves-{n}", 1, True) for n in range(3)])
    page = get(staff, "grace", f"/v1/classes/{room.class_id}/mastery?limit=1").get_json()
    assert (page["total"], page["offset"], page["name"], len(page["students"])) == (3, 0, "7b", 1)
    (ada,) = page["students"]
    assert ada["display_name"] == "Ada"
    assert ada["student_id"].replace("-", "") == room.ids["ada"]
    assert len(ada["student_id"]) == 36
    assert [(c["id"].replace("-", ""), c["answers"]) for c in ada["concepts"]] == [(room.ids["halves"], 3)]
    second = get(staff, "grace", f"/v1/classes/{room.class_id}/mastery?limit=1&offset=1").get_json()
    assert [s["display_name"] for s in second["students"]] == ["Ben"]


def test_what_cannot_be_asked_for_is_refused(room: Classroom, staff: Staffroom) -> None:
    client, grace = staff.app.test_client(), staff.token("grace")
    for query in ("limit=0", "limit=501", "limit=x", "offset=-1", "offset=99999999999", "limit=\u0663", "topic_id=no"):
        answer = client.get(f"/v1/classes/{room.class_id}/items?{query}", headers=grace)
        assert (answer.status_code, answer.get_json()["code"]) == (422, "invalid"), query


def test_classes_and_students_that_are_not_there_are_not_found(room: Classroom, staff: Staffroom) -> None:
    for path in ("nonsense/mastery", f"{room.school.ids.new()}/items", f"{room.class_id}/students/{room.school.ids.new()}"):
        assert get(staff, "root", f"/v1/classes/{path}").status_code == 404


def lines(answer: Any) -> list[list[str]]:
    assert answer.status_code == 200
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.data.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"))))


def test_csv_comes_by_address_or_by_asking_for_it(room: Classroom, staff: Staffroom) -> None:
    room.answer([Given("ada", f"halves-{n}", 1, True) for n in range(3)])
    path = f"/v1/classes/{room.class_id}/mastery"
    by_address, by_header = get(staff, "grace", f"{path}.csv"), get(staff, "grace", path, Accept="text/csv")
    assert lines(by_address) == lines(by_header)
    heading, line = lines(by_address)
    told = dict(zip(heading, line, strict=True))
    assert (told["student"], told["concept"], told["answers"], told["last_sync"]) == ("Ada", "halves", "3", "")
    assert told["last_answer"] == "2026-01-04T12:00:00Z"
    assert get(staff, "grace", path, Accept="text/html, */*").content_type == "application/json"
    for table in TABLES:
        assert len({len(line) for line in lines(get(staff, "grace", f"/v1/classes/{room.class_id}/{table}.csv"))}) == 1, table


def test_no_cell_is_a_formula(room: Classroom, staff: Staffroom) -> None:
    bad = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "  =1")
    for n, formula in enumerate(bad):
        room.answer([Given(s, f"halves-{n % 3}", 2 - n / 10, False, formula) for s in ("ada", "ben", "cem")])
    for table in ("wrong-answers", "items"):
        cells = [cell for line in lines(get(staff, "grace", f"/v1/classes/{room.class_id}/{table}.csv"))[1:] for cell in line]
        assert any("cmd" in cell for cell in cells)
        assert [c for c in cells if c.strip().startswith(("=", "+", "-", "@"))] == []


def test_a_look_at_one_student_is_audited_and_a_refused_one_is_not(room: Classroom, staff: Staffroom) -> None:
    path = f"/v1/classes/{room.class_id}/students/{room.ids['ada']}"
    assert get(staff, "hal", path).status_code == 403
    assert get(staff, "grace", path).get_json()["student"]["display_name"] == "Ada"
    with room.school.database.transaction(read_only=True, school=room.school.id) as cursor:
        cursor.execute("SELECT actor, subject FROM audit_log WHERE school_id = %s AND action = 'student.read'", (room.school.id,))
        read = cursor.fetchall()
    assert len(read) == 1
    assert read[0][0].startswith("user:")
    assert read[0][1] == room.ids["ada"]
