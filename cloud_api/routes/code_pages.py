"""GET and POST /pages/fleet/codes: enrolment codes for what a school's devices shall hold, classes or single students; /ID/end ends one early.
For administrators."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.config import Tls
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices import enrolment
from cloud_api.devices.enrolment import EXPIRES_H_DEFAULT, EXPIRES_H_MAX, USES_MAX, Grant
from cloud_api.pages import words
from cloud_api.pages.serving import html, refusals_as_pages
from cloud_api.people import find_students, list_classes
from cloud_api.schools import find_school
from cloud_api.serving.tls import own_key_name
from domain.clock import Clock
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import IdSource
from domain.server_key import MARK, grouped

CODES = "/pages/fleet/codes"
# Codes that the page lists; students that one code may name.
OPEN_CODES_MAX = 50
STUDENTS_MAX = 200
HOUR_MS = 3_600_000
# Control characters as well: no name has them, and PostgreSQL takes no NUL.
_BETWEEN_NAMES = re.compile(r"[\s,;\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the form says, as it was typed, so that it is still there when something is wrong with it."""

    classes: frozenset[str] = frozenset()
    students: str = ""
    uses: str = "1"
    hours: str = f"{EXPIRES_H_DEFAULT:g}"


@dataclass(frozen=True, slots=True)
class MadeCode:
    """A code just made: shown once."""

    code: str
    holds: str
    uses: int
    expires_at_ms: int
    line: str
    qr: object


def code_pages_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource, doorkeeper: Doorkeeper, tls: Tls) -> Blueprint:
    """The page of enrolment codes. A server with a certificate of its own names its key in each."""
    blueprint = Blueprint("code_pages", __name__, url_prefix=CODES)
    refusals_as_pages(blueprint)

    @blueprint.get("")
    def codes() -> Response:
        return page(doorkeeper.demand("admin"), Wanted())

    @blueprint.post("")
    def make_code() -> Response:
        user, wanted = doorkeeper.demand("admin"), _wanted()
        try:
            return page(user, Wanted(), made=_make(database, ids, tls, user, wanted, clock.now_ms()))
        except InvalidInput as error:
            return page(user, wanted, problems=[problem.message for problem in error.problems], status=error.status)

    @blueprint.post("/<code_id>/end")
    def end(code_id: str) -> Response:
        user = doorkeeper.demand("admin")
        database.retrying(lambda cursor: _end(cursor, user, code_id), school=user.school_id)
        return Response(status=303, headers={"Location": f"{CODES}#open"})

    def _end(cursor: Cursor, user: SignedInUser, code_id: str) -> None:
        """One that was used up, ended or has expired meanwhile is as it should be."""
        with suppress(NotFound):
            enrolment.end_code(cursor, ids, user.school_id, code_id, clock.now_ms(), user.actor)

    def page(
        user: SignedInUser, wanted: Wanted, made: MadeCode | None = None, problems: list[str] | None = None, status: int = 200
    ) -> Response:
        now_ms = clock.now_ms()
        with database.transaction(read_only=True, school=user.school_id) as cursor:
            school_name = find_school(cursor, user.school_id).name
            classes = sorted(list_classes(cursor, user.school_id), key=lambda found: words.as_people_count(found[1]))
            open_codes = enrolment.open_codes(cursor, user.school_id, now_ms, OPEN_CODES_MAX)
        rows = [(_holds(code.classes, code.students), code) for code in open_codes]
        limits = {"uses_max": USES_MAX, "hours_max": int(EXPIRES_H_MAX)}
        shown = {"wanted": wanted, "made": made, "problems": problems or [], "classes": classes, "open_codes": rows, **limits}
        return html("fleet/codes.html", user, status, school_name=school_name, now_ms=now_ms, **shown)

    return blueprint


def _make(database: CloudDatabase, ids: IdSource, tls: Tls, user: SignedInUser, wanted: Wanted, now_ms: int) -> MadeCode:
    """Raises InvalidInput for what the form does not say rightly."""
    uses, hours = _whole("uses", wanted.uses, USES_MAX), _whole("hours", wanted.hours, int(EXPIRES_H_MAX))

    def work(cursor: Cursor) -> tuple[str, str]:
        grants, holds = _grants(cursor, user.school_id, wanted)
        return enrolment.create_code(cursor, ids, user.school_id, grants, uses, hours, now_ms, user.actor), holds

    code, holds = database.retrying(work, school=user.school_id)
    if (key := own_key_name(tls)) is not None:
        code = f"{code}{MARK}{grouped(key)}"
    line = f"carrel enrol {request.host_url.rstrip('/')} {code}"
    return MadeCode(code, holds, uses, now_ms + hours * HOUR_MS, line, _qr(line))


def _wanted() -> Wanted:
    form = request.form
    return Wanted(frozenset(form.getlist("class_id")), *(form.get(name, "").strip() for name in ("students", "uses", "hours")))


def _grants(cursor: Cursor, school_id: str, wanted: Wanted) -> tuple[list[Grant], str]:
    """What the code gives, and that in words. Raises InvalidInput for nothing, and for whatever is not in the school."""
    classes = [(id_, name) for id_, name in list_classes(cursor, school_id) if id_ in wanted.classes]
    names = list(dict.fromkeys(name for name in _BETWEEN_NAMES.split(wanted.students) if name))
    students = find_students(cursor, school_id, names[:STUDENTS_MAX])
    problems = []
    if len(classes) < len(wanted.classes):
        problems.append(Problem("$.class_id", "invalid_value", "A class that was chosen is not there any more."))
    if len(names) > STUDENTS_MAX:
        problems.append(Problem("$.students", "invalid_value", f"One code is for at most {STUDENTS_MAX} single students."))
    elif missing := [name for name in names if name not in students]:
        problems.append(Problem("$.students", "invalid_value", f"There is no student of the user name {', '.join(missing[:5])}."))
    if not (wanted.classes or names):
        problems.append(Problem("$.class_id", "invalid_value", "Choose at least one class, or name a student."))
    if problems:
        raise InvalidInput(problems)
    grants = [Grant("class", id_) for id_, _ in classes] + [Grant("student", students[name]) for name in names]
    return grants, _holds([name for _, name in classes], len(set(students.values())))


def _holds(classes: list[str], students: int) -> str:
    """What a code is for, in words."""
    return ", ".join([*classes, *([words.count(students, "student")] if students else [])])


def _whole(name: str, text: str, most: int) -> int:
    """A whole number of the form, 1 to `most`. Raises InvalidInput."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        what = {"uses": "The number of devices", "hours": "The number of hours"}[name]
        raise InvalidInput([Problem(f"$.{name}", "invalid_value", f"{what} must be a whole number from 1 to {most}.")])
    return int(text)


def _qr(line: str) -> object:
    """The SVG, which templates take as it is."""
    from webpages.qr import qr_code  # here, because few ever make a code

    return qr_code(line, "The command as a QR code")
