"""GET and POST /pages/classes/…/rules: the school's word on the study plans of a class, or of one student; /ID/remove takes a rule away.
For the class's teachers and for administrators."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, request

from cloud_api import plan_rules
from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.analytics.course import course_of
from cloud_api.analytics.roster import Roster, roster_of
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.pages.classes.rule_form import DAYS_OFF_MAX, WantedRule, read_form, read_last_day, rules_wanted
from cloud_api.pages.classes.rules import LINES_MAX, concept_groups, rule_lines
from cloud_api.pages.serving import html, refusals_as_pages
from cloud_api.routes.messages import id_of
from domain.clock import Clock
from domain.errors import Conflict, InvalidInput, NotFound
from domain.ids import Id, IdSource, dashed

# What the page says after something was done, by the word that its address then bears.
DONE = {
    "added": "The rule is made. Devices plan by it from their next sync on.",
    "before": "There was such a rule before; nothing has changed.",
    "removed": "The rule is taken away. Devices plan without it from their next sync on.",
}


@dataclass(frozen=True, slots=True)
class Place:
    """What a page of rules is about, and who looks at it: a class, or one student of it."""

    user: SignedInUser
    class_id: Id
    student_id: Id | None

    @property
    def path(self) -> str:
        """The address of the page."""
        return f"{self.about}/rules"

    @property
    def about(self) -> str:
        """Where the class or the student is shown."""
        return f"{self.class_path}/students/{dashed(self.student_id)}" if self.student_id else self.class_path

    @property
    def class_path(self) -> str:
        """Where the pages of the class begin."""
        return f"/pages/classes/{dashed(self.class_id)}"

    def students(self, cursor: Cursor) -> list[str]:
        """Whom a rule for all that the page is about is for. Raises NotFound for a class that is not there, and for a student who is not in it."""
        roster_of(cursor, self.user.school_id, self.class_id)
        everyone = plan_rules.students_of(cursor, self.user.school_id, self.class_id)
        if self.student_id is None:
            return everyone
        if self.student_id not in everyone:
            raise NotFound("There is no such student in this class.")
        return [self.student_id]


@dataclass(frozen=True, slots=True)
class Refused:
    """A form that was refused: what it said, and what is wrong with it."""

    wanted: WantedRule
    problems: list[str]
    status: int


def rule_pages_blueprint(database: CloudDatabase, clock: Clock, ids: IdSource, doorkeeper: Doorkeeper) -> Blueprint:
    """The pages of plan rules."""
    blueprint = Blueprint("rule_pages", __name__, url_prefix="/pages/classes/<class_id>")
    refusals_as_pages(blueprint)

    def admitted(class_id: str, student_id: str | None) -> Place:
        user = doorkeeper.demand("teacher", "admin")
        place = Place(user, id_of(class_id), None if student_id is None else id_of(student_id))
        user.demand_class(place.class_id)
        return place

    @blueprint.get("/rules")
    @blueprint.get("/students/<student_id>/rules")
    def rules(class_id: str, student_id: str | None = None) -> Response:
        return page(database, clock, admitted(class_id, student_id))

    @blueprint.post("/rules")
    @blueprint.post("/students/<student_id>/rules")
    def add(class_id: str, student_id: str | None = None) -> Response:
        place, wanted = admitted(class_id, student_id), read_form(request.form)

        def work(cursor: Cursor) -> int:
            school_id, students, now_ms = place.user.school_id, place.students(cursor), clock.now_ms()
            new = rules_wanted(wanted, course_of(cursor, school_id).concepts, students, now_ms)
            chosen = [wanted.student] if wanted.student else students
            of_class = None if place.student_id or wanted.student else place.class_id
            return plan_rules.add_rules(cursor, ids, school_id, chosen, new, now_ms, place.user.actor, of_class)

        try:
            return _seen(place, "added" if database.retrying(work, school=place.user.school_id) else "before")
        except InvalidInput as error:
            refused = Refused(wanted, [problem.message for problem in error.problems], error.status)
        except Conflict as error:
            refused = Refused(wanted, [error.message], error.status)
        return page(database, clock, place, refused)

    @blueprint.post("/rules/<rule_id>/remove")
    @blueprint.post("/students/<student_id>/rules/<rule_id>/remove")
    def remove(class_id: str, rule_id: str, student_id: str | None = None) -> Response:
        """One that was taken away meanwhile is as it should be."""
        place, rule = admitted(class_id, student_id), id_of(rule_id)

        def work(cursor: Cursor) -> None:
            students = place.students(cursor)
            last_day = read_last_day(request.form)
            plan_rules.remove_alike(cursor, ids, place.user.school_id, rule, students, clock.now_ms(), place.user.actor, last_day)

        database.retrying(work, school=place.user.school_id)
        return _seen(place, "removed")

    return blueprint


def page(database: CloudDatabase, clock: Clock, place: Place, refused: Refused | None = None) -> Response:
    """The rules of the place and the forms for more, with what was wrong with the last one."""
    user, now_ms = place.user, clock.now_ms()
    with database.transaction(snapshot=True, school=user.school_id) as cursor:
        roster = roster_of(cursor, user.school_id, place.class_id)
        students = place.students(cursor)
        found = plan_rules.list_rules(cursor, user.school_id, students)
        course = course_of(cursor, user.school_id)
    values = {
        "of": roster,
        "own": place.class_path,
        "about": place.about,
        "path": place.path,
        "student_name": _name(roster, place),
        "lines": rule_lines(found, len(students), now_ms),
        "lines_max": LINES_MAX,
        "groups": concept_groups(course),
        "wanted": refused.wanted if refused else WantedRule(),
        "problems": refused.problems if refused else [],
        "done": "" if refused else DONE.get(request.args.get("done", ""), ""),
        "days_max": DAYS_OFF_MAX,
        "now_ms": now_ms,
    }
    return html("classes/rules.html", user, refused.status if refused else 200, **values)


def _name(roster: Roster, place: Place) -> str:
    """The student's name; empty on the page of a class."""
    return roster.students.get(place.student_id, "") if place.student_id else ""


def _seen(place: Place, done: str) -> Response:
    return Response(status=303, headers={"Location": f"{place.path}?done={done}"})
