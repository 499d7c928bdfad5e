"""The school of a fleet: a course, students with two devices each, and a code for every device."""

from __future__ import annotations

from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant, create_code
from cloud_api.imports.loading import Importer
from cloud_api.people import create_user
from cloud_api.publication import Publication
from cloud_api.schools import create_school
from devstack.seeding import COURSE
from domain.clock import SystemClock
from domain.ids import Id, IdSource

DEVICES_OF_A_STUDENT = 2
TINY_COURSE_QUESTIONS = 20
CODE_EXPIRES_H = 2.0
CODE_USES = 5


def enrolments(database: CloudDatabase, devices: int, *, real_course: bool) -> tuple[Id, list[dict[str, str]]]:
    """A school with a course, its students, and what each device is told."""
    clock = SystemClock()
    ids = IdSource(clock.now_ms)
    with database.transaction() as cursor:
        school = create_school(cursor, ids.new(), "Fleet School", clock.now_ms()).id
    if real_course:
        Importer(database, clock, ids, school).course(COURSE)
    else:
        _publish_tiny_course(database, ids, school, clock.now_ms())
    told = []
    for number in range(-(-devices // DEVICES_OF_A_STUDENT)):
        with database.transaction() as cursor:
            student = create_user(cursor, ids, school, f"student{number}", f"Student {number}", "student", (), clock.now_ms()).id
        for side in range(DEVICES_OF_A_STUDENT):
            with database.transaction() as cursor:
                code = create_code(cursor, ids, school, [Grant("student", student)], CODE_USES, CODE_EXPIRES_H, clock.now_ms())
            told.append({"name": f"device-{number}-{side}", "code": code})
    return school, told[:devices]


def _publish_tiny_course(database: CloudDatabase, ids: IdSource, school: Id, now_ms: int) -> None:
    publication = Publication(school)
    topic = ids.new()
    publication.put("topics", {"id": topic, "title": "Knots", "level": "lesson", "position": 1})
    for number in range(TINY_COURSE_QUESTIONS):
        question = {
            "id": ids.new(),
            "topic_id": topic,
            "concept_ids": [],
            "kind": "short_text",
            "stem": f"Question {number}?",
            "answers": ["4"],
        }
        publication.put("questions", question)
    with database.transaction() as cursor:
        publication.write(cursor, now_ms)
