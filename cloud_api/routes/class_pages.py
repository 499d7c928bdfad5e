"""GET /pages/classes/…: the pages of a class for its teachers and for administrators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.roster import STUDENTS_MAX, ClassSize
from cloud_api.pages.classes import practice as practised
from cloud_api.pages.classes import words
from cloud_api.pages.classes.heat_map import heat_map
from cloud_api.pages.classes.looks import Order, read_look
from cloud_api.pages.classes.questions import ORDERS, QuestionsView, read_questions_look
from cloud_api.pages.classes.reasons import by_rule, rule_counts
from cloud_api.pages.classes.student import student_view
from cloud_api.pages.serving import html, large_html, refusals_as_pages
from cloud_api.pages.words import as_people_count
from cloud_api.routes.messages import id_of
from domain.clock import Clock
from domain.errors import NotFound
from domain.ids import Id, dashed


@dataclass(frozen=True, slots=True)
class _Classroom:
    """What every page of a class needs: who may see it, and its frame."""

    figures: ClassFigures
    doorkeeper: Doorkeeper
    clock: Clock

    def admitted(self, class_id: str) -> tuple[SignedInUser, ClassSize]:
        """Who asks, and the class. Raises NotSignedIn, Forbidden, NotFound."""
        user, asked = self.doorkeeper.demand("teacher", "admin"), id_of(class_id)
        user.demand_class(asked)
        if not (found := self.figures.classes(user.school_id, (asked,))):
            raise NotFound("There is no such class.")
        return user, found[0]

    def page(self, template: str, user: SignedInUser, of: ClassSize, **values: Any) -> Response:
        """A page of the class `of`."""
        id_ = dashed(Id(of.class_id))
        values |= {"own": f"/pages/classes/{id_}", "api": f"/v1/classes/{id_}", "now_ms": self.clock.now_ms(), "students_max": STUDENTS_MAX}
        return large_html(f"classes/{template}", user, of=of, says=words, dashed=dashed, **values)


def class_pages_blueprint(figures: ClassFigures, doorkeeper: Doorkeeper, clock: Clock) -> Blueprint:
    """The pages. Whoever is not signed in is sent to sign in; whoever may not see the class reads so."""
    blueprint = Blueprint("class_pages", __name__, url_prefix="/pages/classes")
    refusals_as_pages(blueprint)
    room = _Classroom(figures, doorkeeper, clock)
    _add_list(blueprint, room)
    _add_mastery(blueprint, room)
    _add_work(blueprint, room)
    return blueprint


def _add_list(blueprint: Blueprint, room: _Classroom) -> None:
    @blueprint.get("")
    def classes() -> Response:
        user = room.doorkeeper.demand("teacher", "admin")
        found = room.figures.classes(user.school_id, None if user.role == "admin" else user.class_ids)
        return html("classes/list.html", user, classes=sorted(found, key=lambda one: as_people_count(one.name)), dashed=dashed)


def _add_mastery(blueprint: Blueprint, room: _Classroom) -> None:
    @blueprint.get("/<class_id>")
    def overview(class_id: str) -> Response:
        user, of = room.admitted(class_id)
        look = read_look(request.args)
        shown = heat_map(room.figures.overview(user.school_id, of.class_id), look)
        return room.page("overview.html", user, of, map=shown, look=look, orders=Order)

    @blueprint.get("/<class_id>/help")
    def needs_help(class_id: str) -> Response:
        user, of = room.admitted(class_id)
        found = room.figures.help(user.school_id, of.class_id)
        return room.page("help.html", user, of, found=found, by_rule=by_rule, by_rule_counts=rule_counts)

    @blueprint.get("/<class_id>/students/<student_id>")
    def student(class_id: str, student_id: str) -> Response:
        user, of = room.admitted(class_id)
        detail = room.figures.student(user.school_id, of.class_id, id_of(student_id), user.actor)
        view, first_day = student_view(detail, room.clock.now_ms()), practised.first_day(room.clock.now_ms())
        return room.page("student.html", user, of, view=view, first_day=first_day, by_rule=by_rule)


def _add_work(blueprint: Blueprint, room: _Classroom) -> None:
    @blueprint.get("/<class_id>/questions")
    def questions(class_id: str) -> Response:
        user, of = room.admitted(class_id)
        look = read_questions_look(request.args)
        view = QuestionsView(look, *room.figures.questions(user.school_id, of.class_id, look.wanted, look.items, look.wrong))
        return room.page("questions.html", user, of, view=view, look=look, orders=ORDERS)

    @blueprint.get("/<class_id>/practice")
    def practice(class_id: str) -> Response:
        user, of = room.admitted(class_id)
        time, curves = room.figures.practice(user.school_id, of.class_id)
        lines = practised.time_lines(time, room.clock.now_ms())
        return room.page("practice.html", user, of, lines=lines, curves=curves, practised=practised)
