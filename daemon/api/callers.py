"""Who a request comes from, by its token and its origin: an app, a student's session in an app, or the command line.

A page may only use tokens of the app that its origin belongs to, so that a token that got out is of no use to another page.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from daemon.access.apps import DEVICE_PAGE, App, token_hash
from daemon.access.local_access import LocalAccess
from daemon.api.endpoints import Access
from domain.errors import Forbidden, NotSignedIn
from domain.ids import Id

TOKEN_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `app` is None for the command line and for open endpoints, `student` for everything but a session."""

    app: App | None = None
    student: Id | None = None


def caller(access: LocalAccess, demanded: Access, authorization: str | None, foreign_origin: str | None, from_own_page: bool) -> Caller:
    """Who calls, by the Authorization header. `foreign_origin` is the origin of a page that the daemon did not serve itself.

    The device page comes without a token where it may come at all: what it sends there is proof of itself, a name and a PIN.

    Raises NotSignedIn without a valid token, Forbidden with the wrong kind of token, or a token of another app than the page's.
    """
    if demanded is Access.OPEN:
        return Caller()
    if authorization is None and from_own_page and "page" in demanded.kinds:
        return Caller(access.apps.get(DEVICE_PAGE))
    found, kind = _identified(access, bearer(authorization))
    if foreign_origin is not None and (found.app is None or foreign_origin not in found.app.origins):
        raise Forbidden("This token does not belong to the app of this page.", "origin_not_allowed")
    if kind not in demanded.kinds:
        raise Forbidden(f"This needs {demanded.wanted}.")
    return found


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header. Raises NotSignedIn when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH_MAX:
        raise NotSignedIn()
    return token


def _identified(access: LocalAccess, token: str) -> tuple[Caller, str]:
    hash_ = token_hash(token)
    if hmac.compare_digest(hash_, token_hash(access.control_token)):
        return Caller(), "control"
    if app := access.apps.of_token(hash_) or access.launch_codes.app_of(hash_):
        return Caller(app), "app"
    if (session := access.sessions.find(hash_)) and (app := access.apps.get(session.app_id)):
        return Caller(app, session.student_id), "student"
    raise NotSignedIn()
