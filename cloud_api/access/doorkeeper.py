"""Who a request of a person comes from: a bearer token for programs, a cookie for pages, and what pages must show to change anything.

A cookie is sent by the browser whatever page made the request. So a request that carries one changes something only with the token of its
session that pages of this server alone can know (`csrf_token`), and never when the browser says that it comes from another site.
"""

from __future__ import annotations

import hashlib
import hmac

from flask import Request, Response, request

from cloud_api.access import sessions
from cloud_api.access.known_browsers import KNOWN_DAYS, read_proofs, write_proofs
from cloud_api.access.sessions import Session, SignedInUser
from cloud_api.config import SignIn as SignInSettings
from cloud_api.database import CloudDatabase
from cloud_api.tokens import HASH_BYTES, TOKEN_LENGTH_MAX, bearer
from domain.clock import Clock
from domain.errors import Forbidden, NotSignedIn

# Browsers take a name with this prefix only over TLS, for this very host and the whole of it: no neighbour can plant such a cookie.
SECURE_COOKIE = "__Host-carrel"
# On a loopback address without TLS, for trying it out.
PLAIN_COOKIE = "carrel"
# Added to these names for the cookie by which a browser knows people.
KNOWN = "-known"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_SAFE_METHODS = ("GET", "HEAD")
# What a browser says of a request that a page of this very server made, or its user by hand.
_OWN_SITES = (None, "same-origin", "none")


class Doorkeeper:
    """Tells who is signed in. For any thread; works on the request at hand."""

    def __init__(self, database: CloudDatabase, clock: Clock, settings: SignInSettings) -> None:
        self._database, self._clock, self._settings = database, clock, settings

    def demand(self, *roles: str, is_use: bool = True) -> SignedInUser:
        """Who made this request, with one of `roles` (none given: any). Costs a transaction of its own. A page that asks by itself is no use of
        the session: one that is left open would else never end it.

        Raises NotSignedIn; Forbidden for another role, and (`csrf_refused`) for a change by cookie that no page of this server has made.
        """
        token = credential(request)
        with self._database.transaction() as cursor:
            user = sessions.find(cursor, token, self._clock.now_ms(), self._settings, is_use=is_use)
        if roles:
            user.demand_role(*roles)
        return user


def credential(incoming: Request) -> str:
    """The session's token that a request shows. Raises NotSignedIn, Forbidden (`csrf_refused`)."""
    if "Authorization" in incoming.headers:
        return bearer(incoming.headers["Authorization"])
    token = incoming.cookies.get(_cookie_name(incoming), "")
    if not token or len(token) > TOKEN_LENGTH_MAX or not token.isascii():
        raise NotSignedIn("Sign in first.")
    if incoming.method not in _SAFE_METHODS:
        _demand_own_page(incoming, token)
    return token


def demand_own_origin(incoming: Request) -> None:
    """Before a cookie is given out: nobody is signed in by a page of another site. Raises Forbidden (`csrf_refused`)."""
    origin = incoming.headers.get("Origin")
    if incoming.headers.get("Sec-Fetch-Site") not in _OWN_SITES or origin not in (None, incoming.host_url.rstrip("/")):
        raise Forbidden("This request comes from a page of another site.", "csrf_refused")


def csrf_token(session_token: str) -> str:
    """What a page of this session puts into its forms (`csrf_token`) or sends as X-CSRF-Token. Nothing of the session can be told from it."""
    return hashlib.blake2b(session_token.encode(), digest_size=HASH_BYTES, person=b"carrel csrf").hexdigest()


def give_cookie(response: Response, session: Session) -> None:
    """Has the browser keep the session, out of reach of scripts and other sites, until it is closed."""
    response.set_cookie(_cookie_name(request), session.token, secure=request.is_secure, httponly=True, samesite="Lax", path="/")


def proofs_shown(incoming: Request) -> list[str]:
    """The proofs of a browser in which people have signed in before."""
    return read_proofs(incoming.cookies.get(_cookie_name(incoming) + KNOWN, ""))


def give_proof(response: Response, proof: str, before: str | None) -> None:
    """Has the browser know whoever has just signed in, also when the session is over; not by `before` any more. It is no authority: it opens nothing."""
    kept = [proof, *(other for other in proofs_shown(request) if other != before)]
    response.set_cookie(
        _cookie_name(request) + KNOWN,
        write_proofs(kept),
        KNOWN_DAYS * 24 * 3600,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def take_cookie(response: Response) -> None:
    """Has the browser forget the session."""
    response.delete_cookie(_cookie_name(request), secure=request.is_secure, httponly=True, samesite="Lax", path="/")


def _cookie_name(incoming: Request) -> str:
    return SECURE_COOKIE if incoming.is_secure else PLAIN_COOKIE


def _demand_own_page(incoming: Request, token: str) -> None:
    demand_own_origin(incoming)
    shown = incoming.headers.get(CSRF_HEADER) or (incoming.form.get(CSRF_FIELD, "") if incoming.mimetype in _FORMS else "")
    if not hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), csrf_token(token).encode()):
        raise Forbidden("This request does not come from a page of this server: open the page anew.", "csrf_refused")


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
