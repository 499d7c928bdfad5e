"""What all pages of the server have in common: their addresses, how they are rendered and answered, and what a refusal looks like."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from cloud_api.access.doorkeeper import credential, csrf_token
from cloud_api.access.sessions import SignedInUser
from domain.errors import CarrelError, InvalidInput, NotSignedIn
from webpages.headers import page_headers

if TYPE_CHECKING:
    from webpages.rendering import Templates

# Below this lie the files that pages load; where people sign in; where their classes are.
ASSETS = "/pages/assets/"
SIGN_IN = "/pages/sign-in"
# The parameter of SIGN_IN that says where to go afterwards: a path of this server.
WANTED = "to"
_FOLDER = Path(__file__).parent / "templates"


def html(template: str, user: SignedInUser | None, status: int = 200, **values: Any) -> Response:
    """A page for `user` (None: nobody has signed in). Templates get `user`, and `csrf_token` for their forms."""
    shown = "" if user is None else csrf_token(credential(request))
    content = _templates().render(template, user=user, csrf_token=shown, **values)
    return Response(content, status, headers=dict(page_headers(forms=True)), content_type="text/html; charset=utf-8")


def refusals_as_pages(blueprint: Blueprint) -> None:
    """Has a blueprint's refusals answered as pages: whoever is not signed in is sent to sign in, and comes back to the page."""
    blueprint.register_error_handler(NotSignedIn, _to_sign_in)
    blueprint.register_error_handler(CarrelError, _refused)


def _to_sign_in(error: NotSignedIn) -> Response:
    wanted = request.full_path.rstrip("?") if request.method == "GET" else ""
    return Response(status=303, headers={"Location": f"{SIGN_IN}?{urlencode({WANTED: wanted})}" if wanted else SIGN_IN})


def _refused(error: CarrelError) -> Response:
    said = [problem.message for problem in error.problems] if isinstance(error, InvalidInput) else [error.message]
    return html("refused.html", None, error.status, message=" ".join(said))


@cache
def _templates() -> Templates:
    """Made when the first page is looked at."""
    from cloud_api.pages import words
    from webpages.rendering import Templates

    return Templates(_FOLDER, assets=ASSETS, words=words)
