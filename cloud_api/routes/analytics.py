"""GET /v1/classes/{id}/…: the figures of a class for its teachers and for administrators, as JSON, or as CSV with `.csv` or `Accept: text/csv`."""

from __future__ import annotations

from collections.abc import Callable, Collection

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import Doorkeeper
from cloud_api.access.sessions import SignedInUser
from cloud_api.analytics import csv_tables, telling
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.csv_tables import Table, write_csv
from cloud_api.analytics.question_lists import ItemOrder, ItemsWanted, Span
from cloud_api.analytics.tables import MASTERY, TABLES, Listed, Read, read_items
from cloud_api.pages.compression import compressed
from cloud_api.routes.messages import answer, id_of
from domain.errors import InvalidInput, Problem
from domain.ids import Id, parse_id

CSV_TYPE = "text/csv"
# Rows of one page; a CSV file has all of them.
ROWS_DEFAULT, ROWS_MAX = 100, 500
OFFSET_MAX = 1_000_000
# What an address may ask for. A parameter that is not known is refused: whoever mistypes one is not to take everything for what was asked.
_PAGE = ("offset", "limit")
_ITEMS = (*_PAGE, "topic_id", "concept_id", "flagged", "order")


def analytics_blueprint(figures: ClassFigures, doorkeeper: Doorkeeper) -> Blueprint:
    """The routes of class figures."""
    blueprint = Blueprint("analytics", __name__, url_prefix="/v1/classes")
    for name, kind in TABLES.items():
        _add(blueprint, name, _table_view(figures, name, _read_items_wanted if name == "items" else kind.read, doorkeeper))
    _add(blueprint, MASTERY, _mastery_view(figures, doorkeeper))
    _add(blueprint, "students/<student_id>", _student_view(figures, doorkeeper))
    return blueprint


def _add(blueprint: Blueprint, path: str, view: Callable[..., Response]) -> None:
    """The table under its address, and its CSV under the same with `.csv`."""
    name = path.partition("/")[0].replace("-", "_")
    blueprint.add_url_rule(f"/<class_id>/{path}", name, view, methods=["GET"], defaults={"as_csv": False})
    blueprint.add_url_rule(f"/<class_id>/{path}.csv", f"{name}_csv", view, methods=["GET"], defaults={"as_csv": True})


def _read_items_wanted(figures: ClassFigures, school_id: str, class_id: str, span: Span) -> Listed:
    """Items may be asked for by topic or concept, flagged ones alone, in an order."""
    flagged = _one_of("flagged", ("false", "true")) == "true"
    wanted = ItemsWanted(_asked_id("topic_id"), _asked_id("concept_id"), flagged, ItemOrder(_one_of("order", tuple(ItemOrder))))
    return read_items(wanted)(figures, school_id, class_id, span)


def _table_view(figures: ClassFigures, name: str, read: Read, doorkeeper: Doorkeeper) -> Callable[..., Response]:
    kind, known = TABLES[name], _ITEMS if name == "items" else _PAGE

    def view(class_id: str, as_csv: bool) -> Response:
        user, class_ = _admitted(doorkeeper, class_id, known)
        offset, limit = _page()
        if as_csv or _csv_wanted():
            return _csv(kind.table(read(figures, user.school_id, class_, Span()).rows), name)
        total, rows = read(figures, user.school_id, class_, Span(offset, limit))
        return _varying(answer(kind.page(total, offset, [kind.message(row) for row in rows])))

    return view


def _mastery_view(figures: ClassFigures, doorkeeper: Doorkeeper) -> Callable[..., Response]:
    def view(class_id: str, as_csv: bool) -> Response:
        user, class_ = _admitted(doorkeeper, class_id, _PAGE)
        offset, limit = _page()
        overview = figures.overview(user.school_id, class_)
        if as_csv or _csv_wanted():
            return _csv(csv_tables.mastery(overview), MASTERY)
        return _varying(answer(telling.class_mastery(overview, offset, limit)))

    return view


def _student_view(figures: ClassFigures, doorkeeper: Doorkeeper) -> Callable[..., Response]:
    def view(class_id: str, student_id: str, as_csv: bool) -> Response:
        user, class_ = _admitted(doorkeeper, class_id, ())
        detail = figures.student(user.school_id, class_, id_of(student_id), user.actor)
        if as_csv or _csv_wanted():
            return _csv(csv_tables.student(detail), "student")
        return _varying(answer(telling.student_figures(detail)))

    return view


def _admitted(doorkeeper: Doorkeeper, class_id: str, known: Collection[str]) -> tuple[SignedInUser, Id]:
    """Who asks, and the class. Raises NotSignedIn, Forbidden, NotFound; InvalidInput for a parameter that is not among `known`."""
    user = doorkeeper.demand("teacher", "admin")
    class_ = id_of(class_id)
    user.demand_class(class_)
    if request.args.keys() - set(known):
        raise InvalidInput([Problem("$", "unknown_field", f"What can be asked for here: {', '.join(known) or 'nothing'}.")])
    return user, class_


def _asked_id(name: str) -> Id | None:
    if (text := request.args.get(name)) is None:
        return None
    try:
        return parse_id(text)
    except ValueError as error:
        raise InvalidInput([Problem(f"$.{name}", "invalid_value", f"{name} must be an id.")]) from error


def _one_of(name: str, values: tuple[str, ...]) -> str:
    """A parameter that is one of these, else the first of them. Raises InvalidInput."""
    if (text := request.args.get(name, values[0])) not in values:
        raise InvalidInput([Problem(f"$.{name}", "invalid_value", f"{name} must be one of: {', '.join(values)}.")])
    return text


def _page() -> tuple[int, int]:
    """(offset, limit) as the request asks for them. Raises InvalidInput."""
    limits = (("offset", 0, 0, OFFSET_MAX), ("limit", ROWS_DEFAULT, 1, ROWS_MAX))
    values, problems = [], []
    for name, default, least, most in limits:
        text = request.args.get(name, str(default))
        if text.isascii() and text.isdecimal() and len(text) <= len(str(OFFSET_MAX)) and least <= int(text) <= most:
            values.append(int(text))
        else:
            problems.append(Problem(f"$.{name}", "out_of_range", f"{name} must be a number from {least} to {most}."))
    if problems:
        raise InvalidInput(problems)
    return values[0], values[1]


def _csv_wanted() -> bool:
    return request.accept_mimetypes.best_match(("application/json", CSV_TYPE), default="application/json") == CSV_TYPE


def _csv(table: Table, name: str) -> Response:
    file_name = f"{name}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    return _varying(Response(write_csv(table), content_type=f"{CSV_TYPE}; charset=utf-8", headers=headers))


def _varying(response: Response) -> Response:
    response.vary.add("Accept")
    return compressed(response)
