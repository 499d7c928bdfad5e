"""GET /pages/classes/…: the pages of a class for its teachers and for administrators."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.roster import ClassSize
from cloud_api.pages.classes import practice as practised
from cloud_api.pages.classes import words
from cloud_api.pages.classes.heat_map import heat_map
from cloud_api.pages.classes.looks import Order, read_look
from cloud_api.pages.classes.questions import ORDERS, QuestionsView, read_questions_look
from cloud_api.pages.classes.reasons import by_rule, rule_counts
from cloud_api.pages.classes.student import student_view
from cloud_api.pages.serving import html, large_html, refusals_as_pages
from domain.clock import Clock
from domain.errors import NotFound
from domain.ids import Id, dashed, parse_id


def class_pages_blueprint(figures: ClassFigures, doorkeeper: Doorkeeper, clock: Clock) -> Blueprint:
    """The pages. Whoever is not signed in is sent to sign in; whoever may not see the class reads so."""
    blueprint = Blueprint("class_pages", __name__, url_prefix="/pages/classes")
    refusals_as_pages(blueprint)

    def admitted(class_id: str) -> tuple[SignedInUser, ClassSize]:
        user, asked = doorkeeper.demand("teacher", "admin"), _id(class_id)
        user.demand_class(asked)
        if not (found := figures.classes(user.school_id, (asked,))):
            raise NotFound("There is no such class.")
        return user, found[0]

    def page(template: str, user: SignedInUser, of: ClassSize, **values: Any) -> Response:
        api = f"/v1/classes/{dashed(Id(of.class_id))}"
        own = f"/pages/classes/{dashed(Id(of.class_id))}"
        return large_html(f"classes/{template}", user, of=of, own=own, api=api, now_ms=clock.now_ms(), says=words, dashed=dashed, **values)

    @blueprint.get("")
    def classes() -> Response:
        user = doorkeeper.demand("teacher", "admin")
        found = figures.classes(user.school_id, None if user.role == "admin" else user.class_ids)
        return html("classes/list.html", user, classes=found, dashed=dashed)

    @blueprint.get("/<class_id>")
    def overview(class_id: str) -> Response:
        user, of = admitted(class_id)
        look = read_look(request.args)
        shown = heat_map(figures.overview(user.school_id, of.class_id), look)
        return page("overview.html", user, of, map=shown, look=look, orders=Order)

    @blueprint.get("/<class_id>/help")
    def needs_help(class_id: str) -> Response:
        user, of = admitted(class_id)
        found = figures.help(user.school_id, of.class_id)
        return page("help.html", user, of, found=found, by_rule=by_rule, by_rule_counts=rule_counts)

    @blueprint.get("/<class_id>/questions")
    def questions(class_id: str) -> Response:
        user, of = admitted(class_id)
        look = read_questions_look(request.args)
        view = QuestionsView(look, *figures.questions(user.school_id, of.class_id, look.wanted, look.items, look.wrong))
        return page("questions.html", user, of, view=view, look=look, orders=ORDERS)

    @blueprint.get("/<class_id>/practice")
    def practice(class_id: str) -> Response:
        user, of = admitted(class_id)
        time, curves = figures.practice(user.school_id, of.class_id)
        lines = practised.time_lines(time, clock.now_ms())
        return page("practice.html", user, of, lines=lines, curves=curves, practised=practised)

    @blueprint.get("/<class_id>/students/<student_id>")
    def student(class_id: str, student_id: str) -> Response:
        user, of = admitted(class_id)
        detail = figures.student(user.school_id, of.class_id, _id(student_id), user.actor)
        view, first_day = student_view(detail, clock.now_ms()), practised.first_day(clock.now_ms())
        return page("student.html", user, of, view=view, first_day=first_day, by_rule=by_rule)

    return blueprint


def _id(text: str) -> Id:
    """An id in either form. Raises NotFound."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise NotFound from error
