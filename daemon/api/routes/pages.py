"""The device page: GET / for whoever sits at this machine, its parts and files below /pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.api.endpoints import Access, Answer, Call, Endpoint
from daemon.api.routes.sync import status_of
from domain.errors import NotFound
from webpages.assets import COMMON, Assets, media_of
from webpages.headers import NO_PAGE, page_headers

if TYPE_CHECKING:
    from webpages.rendering import Templates

HTML = "text/html"
_FOLDER = Path(__file__).parents[2] / "pages"
_OWN = Assets(_FOLDER / "static", ("device.js",))


def page(call: Call) -> Answer:
    return _html("device.html", {**_status_values(call), "idle_ms": call.access.sessions.idle_ms})


def status_part(call: Call) -> Answer:
    return _html("status.html", _status_values(call))


def student_part(call: Call) -> Answer:
    from daemon.pages.student import view_of

    return _html("student.html", {"view": view_of(call.device.engine, call.student_id)})


def missing_page() -> Answer:
    """What a browser is shown in the place of a page that is not there."""
    return replace(_html("missing.html", {"message": NO_PAGE}), status=404)


def _status_values(call: Call) -> dict[str, object]:
    from daemon.pages.words import standing

    status = status_of(call.device)
    return {"status": status, "standing": standing(status), "now_ms": call.device.clock.now_ms()}


def _html(template: str, values: dict[str, object]) -> Answer:
    return Answer(_templates().render(template, **values), headers=page_headers())


@cache
def _templates() -> Templates:
    """Made when the page is looked at: a device whose page nobody opens holds neither templates nor what they are made with."""
    from daemon.pages import words
    from webpages.rendering import Templates

    return Templates(_FOLDER / "templates", assets="/pages/", words=words)


def _file(assets: Assets, name: str) -> Endpoint:
    return Endpoint("GET", f"/pages/{name}", _given(assets, name), f"A file of the device page: {name}.", {200: str}, Access.OPEN, at_root=True, media=media_of(name))  # fmt: skip


def _given(assets: Assets, name: str) -> Callable[[Call], Answer]:
    return lambda call: Answer(assets.get(name))


ENDPOINTS = (
    Endpoint("GET", "/", page, "The device page, for people.", {200: str}, Access.OPEN, at_root=True, media=HTML),
    Endpoint("GET", "/pages/status", status_part, "The part of it that says where sync stands.", {200: str}, Access.OPEN, at_root=True, media=HTML),
    Endpoint(
        "GET", "/pages/student", student_part, "The part of it for the signed-in student.", {200: str}, errors=(NotFound,), at_root=True, media=HTML
    ),
    *(_file(assets, name) for assets in (COMMON, _OWN) for name in assets.names),
)  # fmt: skip
