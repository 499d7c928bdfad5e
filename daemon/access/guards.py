"""Who may speak to the localhost API at all: checked for every request before anything else is looked at.

A daemon on localhost is reachable by every web page the student opens. A page of a foreign origin reaches nothing here: its Host is not
ours when it rebinds a name to 127.0.0.1, its Origin or Sec-Fetch-Site says where it comes from, and a body that a browser would send
without asking (text/plain, forms) is refused. There are no cookies, so a page has nothing that the browser would add for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flask

from domain.errors import Forbidden, UnsupportedMediaType

HOSTS = ("127.0.0.1", "localhost", "[::1]")
HTTP_PORT = "80"
DEVICE_PAGE_PATH = "/"
# What `Sec-Fetch-Site` says of requests that no other site caused. Programs that are not browsers send nothing.
OWN_SITE = ("same-origin", "none")
# Methods that change nothing; a body of theirs is not read.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PREFLIGHT_MAX_AGE_S = 600

_SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": str(PREFLIGHT_MAX_AGE_S),
}


class Guard:
    """The checks before routing and the headers after it. `origins` gives those of all apps, such as `http://localhost:3000`.

    That a page belongs to the app whose token it holds is looked at after routing (daemon/api/callers.py).
    """

    def __init__(self, origins: Callable[[], frozenset[str]]) -> None:
        self._origins = origins

    def register(self, app: flask.Flask) -> None:
        app.before_request(self.check)
        app.after_request(self.add_headers)

    def check(self) -> flask.Response | None:
        """Raises Forbidden or UnsupportedMediaType; answers a preflight of an allowed origin."""
        environ = flask.request.environ
        _check_host(environ.get("HTTP_HOST", ""), environ.get("SERVER_PORT", ""))
        origin = environ.get("HTTP_ORIGIN")
        listed = origin in self._origins()
        if not listed and not _is_opened(environ):
            _check_origin(origin, environ.get("HTTP_HOST", ""), environ.get("HTTP_SEC_FETCH_SITE"))
        if environ["REQUEST_METHOD"] == "OPTIONS" and listed and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            return _preflight("HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK" in environ)
        if environ["REQUEST_METHOD"] not in SAFE_METHODS and has_body() and not _is_plain_json():
            raise UnsupportedMediaType()
        return None

    def add_headers(self, response: flask.Response) -> flask.Response:
        """Security headers on every answer, CORS headers for allowed origins."""
        headers = response.headers
        for name, value in _SECURITY_HEADERS:
            headers.setdefault(name, value)
        if origins := self._origins():
            headers["Vary"] = "Origin"
            origin = flask.request.environ.get("HTTP_ORIGIN")
            if origin in origins:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"
        return response


def own_origins() -> frozenset[str]:
    """The origins of the daemon's own pages, by all the names that the address of this request has."""
    port = flask.request.environ.get("SERVER_PORT", "")
    return frozenset(f"http://{name}" if port == HTTP_PORT else f"http://{name}:{port}" for name in HOSTS)


def foreign_origin() -> str | None:
    """The origin of the page that asks; None for a program, and for a page of this daemon's own address."""
    environ = flask.request.environ
    origin: str | None = environ.get("HTTP_ORIGIN")
    return None if origin == f"http://{environ.get('HTTP_HOST', '')}" else origin


def from_own_page() -> bool:
    """Whether a page of this daemon's own address asks, by what a browser says of it. A program can say so too."""
    environ = flask.request.environ
    return bool(environ.get("HTTP_ORIGIN") == f"http://{environ.get('HTTP_HOST', '')}")


def has_body() -> bool:
    """Whether the request brings a body, of a stated length or in chunks."""
    environ = flask.request.environ
    return environ.get("CONTENT_LENGTH", "") not in ("", "0") or bool(environ.get("wsgi.input_terminated"))


def _is_plain_json() -> bool:
    """Whether the body is declared as JSON that is not compressed: what is compressed may be of any size."""
    return flask.request.mimetype == "application/json" and flask.request.headers.get("Content-Encoding", "identity") == "identity"


def _check_host(host: str, port: str) -> None:
    host = host.lower()
    name, _, given = host.rpartition(":") if host and host[-1].isdigit() and ":" in host else (host, "", HTTP_PORT)
    if name not in HOSTS or given != port:
        raise Forbidden("The Host of the request is not one of this daemon.", "host_not_allowed")


def _is_opened(environ: Mapping[str, Any]) -> bool:
    """Whether the device page is opened in a window of its own, whatever page the link to it stood on: who linked to it sees nothing of it."""
    return (
        (environ["REQUEST_METHOD"], environ.get("PATH_INFO")) == ("GET", DEVICE_PAGE_PATH)
        and (environ.get("HTTP_SEC_FETCH_MODE"), environ.get("HTTP_SEC_FETCH_DEST")) == ("navigate", "document")
        and "HTTP_ORIGIN" not in environ
    )


def _check_origin(origin: str | None, host: str, site: str | None) -> None:
    own = origin is None or origin == f"http://{host}"
    if not own or site not in (None, *OWN_SITE):
        raise Forbidden("Web pages of this origin may not call the daemon: add it with `carrel app add`.", "origin_not_allowed")


def _preflight(from_public_network: bool) -> flask.Response:
    response = flask.Response(status=204, headers=_PREFLIGHT_HEADERS)
    if from_public_network:
        response.headers["Access-Control-Allow-Private-Network"] = "true"
    return response
