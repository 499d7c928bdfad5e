"""What all pages of the server have in common: their addresses, how they are rendered and answered, and what a refusal looks like."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import credential, csrf_token
from cloud_api.access.sessions import SignedInUser
from cloud_api.pages.compression import compressed
from domain.errors import CarrelError, InvalidInput, NotSignedIn
from webpages.assets import Assets
from webpages.headers import page_headers

if TYPE_CHECKING:
    from webpages.rendering import Templates

# Below this lie the files that pages load; where people sign in; where their classes are.
ASSETS = "/pages/assets/"
SIGN_IN = "/pages/sign-in"
# The parameter of SIGN_IN that says where to go afterwards: a path of this server.
WANTED = "to"
_FOLDER = Path(__file__).parent / "templates"
# Files of these pages beside those that every page loads.
OWN_ASSETS = Assets(Path(__file__).parent / "static", ("heat.js",))


def html(template: str, user: SignedInUser | None, status: int = 200, **values: Any) -> Response:
    """A page for `user` (None: nobody has signed in). Templates get `user`, and `csrf_token` for their forms."""
    return _page(template, user, _token_for(user), status, values)


def large_html(template: str, user: SignedInUser, **values: Any) -> Response:
    """The same, compressed. Only for pages that repeat nothing of the request but ids and choices from closed lists (cloud_api/pages/compression.py)."""
    token = _token_for(user)
    return compressed(_page(template, user, token, 200, values), token)


def _page(template: str, user: SignedInUser | None, token: str, status: int, values: Mapping[str, Any]) -> Response:
    content = _templates().render(template, user=user, csrf_token=token, **values)
    return Response(content, status, headers=dict(page_headers(forms=True)), content_type="text/html; charset=utf-8")


def _token_for(user: SignedInUser | None) -> str:
    return "" if user is None else csrf_token(credential(request))


def refusals_as_pages(blueprint: Blueprint) -> None:
    """Has a blueprint's refusals answered as pages: whoever is not signed in is sent to sign in, and comes back to the page."""
    blueprint.register_error_handler(NotSignedIn, _to_sign_in)
    blueprint.register_error_handler(CarrelError, refused_page)


def _to_sign_in(error: NotSignedIn) -> Response:
    wanted = request.full_path.rstrip("?") if request.method == "GET" else ""
    return Response(status=303, headers={"Location": f"{SIGN_IN}?{urlencode({WANTED: wanted})}" if wanted else SIGN_IN})


def refused_page(error: CarrelError) -> Response:
    """What a person is shown in the place of a page: the sentence of the error, and the way to the first page."""
    said = [problem.message for problem in error.problems] if isinstance(error, InvalidInput) else [error.message]
    return html("refused.html", None, error.status, message=" ".join(said))


@cache
def _templates() -> Templates:
    """Made when the first page is looked at."""
    from cloud_api.pages import words
    from webpages.rendering import Templates

    return Templates(_FOLDER, assets=ASSETS, words=words)
