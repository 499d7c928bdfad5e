"""Every route × host × origin × site × media type × token, over real HTTP: what the table does not allow is refused, and changes no row.

The combinations come from the application's own endpoints, so that a route cannot be forgotten. What must be refused is sent as a request that
would otherwise succeed; what is allowed carries a parameter that no endpoint has, and is refused for that alone, after every check of this page.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from daemon.api.endpoints import Access, Endpoint
from daemon.api.openapi import path_of
from daemon.api.routes import NOUNS
from daemon.api.routes.document import with_document
from daemon.api.server import LocalServer
from tests.integration.daemon.test_api_contract import EXAMPLES, ID
from tests.support.device import ADA, CONTROL_TOKEN, DeviceUnderTest, Settings, open_device

PAGES, FOREIGN = "http://localhost:3000", "https://evil.example"
# The address of the daemon itself, from which the device page comes.
OWN = "own"
ENDPOINTS = with_document([endpoint for noun in NOUNS.values() for endpoint in noun])
JSON = "application/json"
SAFE = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD")
TIMEOUT_S = 30.0

HOSTS = ("own", "evil.example", "127.0.0.1:1")
ORIGINS = (None, OWN, PAGES, FOREIGN, "null")
SITES = (None, "cross-site", "same-site")
MEDIA = (JSON, "text/plain", "application/x-www-form-urlencoded")
# Kind of token, and whether it belongs to the app of PAGES.
TOKENS = {"none": False, "junk": False, "app": True, "other app": False, "student": True, "other student": False, "control": False}
KIND = {"app": "app", "other app": "app", "student": "student", "other student": "student", "control": "control"}


@dataclass(frozen=True)
class Combination:
    """One request: everything that the checks before a handler look at."""

    endpoint: Endpoint
    host: str
    origin: str | None
    site: str | None
    media: str
    token: str

    @property
    def has_body(self) -> bool:
        return self.endpoint.body is not None

    def refusal(self) -> tuple[int, str] | None:
        """The table: how this must be refused, or None where it is allowed."""
        if self.host != "own":
            return 403, "host_not_allowed"
        if self.origin not in (None, OWN, PAGES) or (self.origin != PAGES and self.site is not None):
            return 403, "origin_not_allowed"
        if self.has_body and self.media != JSON:
            return 415, "unsupported_media_type"
        if self.endpoint.access is Access.OPEN:
            return None
        if self.token == "none" and self.origin == OWN and "page" in self.endpoint.access.kinds:
            return None
        if self.token in ("none", "junk"):
            return 401, "not_signed_in"
        if self.origin == PAGES and not TOKENS[self.token]:
            return 403, "origin_not_allowed"
        return None if KIND[self.token] in self.endpoint.access.kinds else (403, "forbidden")


def combinations() -> Iterator[Combination]:
    """All of them; media types only where there is a body, other hosts only with what a browser adds by itself."""
    for endpoint in ENDPOINTS:
        media = MEDIA if endpoint.body is not None else MEDIA[:1]
        for host, origin, site, kind, token in product(HOSTS, ORIGINS, SITES, media, TOKENS):
            if host == "own" or (kind == JSON and site is None):
                yield Combination(endpoint, host, origin, site, kind, token)


class Attacked:
    """A device behind a real listener, with a token of every kind."""

    def __init__(self, device: DeviceUnderTest, port: int) -> None:
        self.device, self.port = device, port
        access = device.api.access
        app, app_token = access.apps.add("Fractions", [PAGES])
        other, other_token = access.apps.add("Reading", [])
        [student] = [s for s, _ in access.sign_in.students() if s.id == ADA]
        self.tokens = {
            "junk": "A" * 43, "app": app_token, "other app": other_token, "control": CONTROL_TOKEN,
            "student": access.sessions.start(student, app).token, "other student": access.sessions.start(student, other).token,
        }  # fmt: skip

    def rows(self) -> str:
        """A fingerprint of every row of every table."""
        with self.device.database.read() as conn:
            tables = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
            stored = {table: sorted(map(repr, conn.execute(f"SELECT * FROM {table}"))) for table in tables}
        return hashlib.sha256(repr(stored).encode()).hexdigest()

    def send(self, connection: http.client.HTTPConnection, one: Combination) -> tuple[int, str]:
        """Status and code. The connection is kept where the daemon keeps it."""
        example = EXAMPLES[one.endpoint.method, path_of(one.endpoint)][1]
        path = example.get("path", path_of(one.endpoint))
        for name in ("{item}", "{operation}", "{app}", "<id>"):
            path = path.replace(name, ID)
        if one.refusal() is None:
            path += "?no_such_parameter=1"
        headers = {"Host": f"127.0.0.1:{self.port}" if one.host == "own" else one.host}
        headers |= {"Origin": f"http://127.0.0.1:{self.port}" if one.origin == OWN else one.origin} if one.origin else {}
        headers |= {"Sec-Fetch-Site": one.site} if one.site else {}
        headers |= {"Authorization": f"Bearer {self.tokens[one.token]}"} if one.token in self.tokens else {}
        body = json.dumps(example.get("json", {})) if one.has_body else None
        headers |= {"Content-Type": one.media} if body else {}
        connection.request(one.endpoint.method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        assert "Set-Cookie" not in response.headers
        assert response.headers.get("Access-Control-Allow-Origin") in (None, PAGES if one.origin == PAGES else None)
        return response.status, json.loads(data)["code"] if data else ""


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    with open_device(tmp_path, Settings()) as device:
        server = LocalServer(device.app, "127.0.0.1", 0, threads=2)
        server.start()
        try:
            yield Attacked(device, server.port)
        finally:
            server.stop()


def test_no_combination_outside_the_table_is_answered_and_none_changes_a_row(attacked: Attacked) -> None:
    before, outcomes, wrong = attacked.rows(), Counter[str](), list[str]()
    with closing(http.client.HTTPConnection("127.0.0.1", attacked.port, timeout=TIMEOUT_S)) as connection:
        for one in combinations():
            expected = one.refusal() or (422, "invalid")
            answered = attacked.send(connection, one)
            outcomes[expected[1]] += 1
            if answered != expected:
                wrong.append(f"{one}: {answered} instead of {expected}")
    assert wrong[:5] == []
    assert attacked.rows() == before
    assert outcomes.total() > 5_000
    assert (
        min(
            outcomes[code]
            for code in ("host_not_allowed", "origin_not_allowed", "unsupported_media_type", "not_signed_in", "forbidden", "invalid")
        )
        > 50
    )


def test_no_method_that_a_route_does_not_have_changes_a_row_whoever_asks(attacked: Attacked) -> None:
    before = attacked.rows()
    taken: dict[str, set[str]] = {}
    for endpoint in ENDPOINTS:
        taken.setdefault(path_of(endpoint).replace("<id>", ID), set()).add(endpoint.method)
    with closing(http.client.HTTPConnection("127.0.0.1", attacked.port, timeout=TIMEOUT_S)) as connection:
        for path, method, token in product(taken, METHODS, ("student", "control")):
            if method in taken[path] or (method == "HEAD" and "GET" in taken[path]):
                continue
            headers = {"Authorization": f"Bearer {attacked.tokens[token]}", "Content-Type": JSON}
            connection.request(method, path, "{}" if method not in SAFE else None, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 405, (method, path)
    assert attacked.rows() == before


def test_reading_changes_no_row_whatever_is_read(attacked: Attacked) -> None:
    before = attacked.rows()
    with closing(http.client.HTTPConnection("127.0.0.1", attacked.port, timeout=TIMEOUT_S)) as connection:
        for endpoint, token in product([e for e in ENDPOINTS if e.method == "GET"], TOKENS):
            headers = {"Authorization": f"Bearer {attacked.tokens[token]}"} if token in attacked.tokens else {}
            for method in ("GET", "HEAD"):
                connection.request(method, path_of(endpoint).replace("<id>", ID), None, headers)
                response = connection.getresponse()
                response.read()
                assert response.status < 500
    assert attacked.rows() == before
