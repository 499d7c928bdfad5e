"""What an empty server is filled with: a school, a real course, and a class of invented people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud_api import people, schools
from cloud_api.access import accounts
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices.enrolment import Grant, create_code
from cloud_api.imports.loading import Importer
from cloud_api.publication import read_rows
from devstack.processes import ROOT
from domain.clock import SystemClock
from domain.errors import NotFound
from domain.ids import Id, IdSource
from domain.registry import TABLES

SCHOOL_NAME = "Demo School"
CLASS_NAME = "8b"
COURSE = ROOT / "seeds" / "elementary-algebra"
COURSE_TITLE = "Elementary Algebra (OATutor, adapted from OpenStax, CC BY 4.0)"
# Everybody's in the demonstration; docs/localhost-api.md uses it.
DEMO_PIN = "2468"
# The teacher of the roster, and what she signs in with at a school's server of our own.
TEACHER, TEACHER_PASSWORD = "ruth", "carrel-2468"
ROSTER = Path(__file__).with_name("roster.csv")
# A code is used at once by the device beside it.
CODE_EXPIRES_H = 1.0


@dataclass(frozen=True, slots=True)
class SeededSchool:
    """The school, and its students by user name."""

    id: Id
    usernames: tuple[str, ...]


def seed(database: CloudDatabase) -> SeededSchool:
    """Makes the school, and imports the course and the roster where it has none. Each is there whole or not at all, so a seeding that was
    broken off is taken up where it stopped. What there is stays as it is."""
    clock = SystemClock()
    ids = IdSource(clock.now_ms)
    school = database.retrying(lambda cursor: _find_or_create(cursor, ids.new(), clock.now_ms()))
    with database.transaction(read_only=True) as cursor:
        has_course, users = bool(read_rows(cursor, TABLES["topics"], school)), people.list_users(cursor, school)
    importer = Importer(database, clock, ids, school)
    if not has_course:
        importer.course(COURSE)
    if not users:
        importer.roster(ROSTER)
        with database.transaction(read_only=True) as cursor:
            users = people.list_users(cursor, school)
    return SeededSchool(school, tuple(u.username for u in users if u.role == "student" and u.retired_at_ms is None))


def let_teacher_in(database: CloudDatabase, school_id: Id) -> None:
    """Gives the teacher a password, unless she has one: then she stays signed in."""
    clock = SystemClock()
    with database.transaction(read_only=True) as cursor:
        account = accounts.find_account(cursor, school_id, TEACHER)
    if account is not None and account.password_hash is None:
        accounts.set_password(database, clock, IdSource(clock.now_ms), school_id, TEACHER, TEACHER_PASSWORD)


def new_enrolment_code(database: CloudDatabase, school_id: str) -> str:
    """A code with which one device may enrol for the class."""
    clock = SystemClock()
    ids = IdSource(clock.now_ms)

    def run(cursor: Cursor) -> str:
        grant = Grant("class", people.find_class(cursor, school_id, CLASS_NAME))
        return create_code(cursor, ids, school_id, [grant], 1, CODE_EXPIRES_H, clock.now_ms())

    return database.retrying(run)


def _find_or_create(cursor: Cursor, new_id: Id, now_ms: int) -> Id:
    try:
        return schools.find_school(cursor, SCHOOL_NAME).id
    except NotFound:
        return schools.create_school(cursor, new_id, SCHOOL_NAME, now_ms).id
