"""What the doctor of a device finds out about its school's server: over real sockets, with real certificates."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from daemon.config import load_config
from daemon.doctor.school import server
from domain.clock import SystemClock
from domain.findings import Severity
from tests.support.certificates import Made, make
from tests.support.device import DAY_MS

CLOCK = SystemClock()


class _Ready(BaseHTTPRequestHandler):
    """Answers that it is ready, or not, at the time by its own clock."""

    status, clock_ahead_ms = 200, 0

    def do_GET(self) -> None:
        """A server of a school answers under its name alone, which has the port and, of an address of IPv6, the brackets."""
        address: Any = self.server.server_address
        host, port = address[:2]
        self.send_response_only(self.status if self.headers["Host"] == f"{host!s}:{port}" else 400)
        self.send_header("Date", formatdate((CLOCK.now_ms() + self.clock_ahead_ms) / 1000, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def serving(certificate: Made | None = None, *, status: int = 200, clock_ahead_ms: int = 0) -> Iterator[int]:
    """The port of a server of a school."""
    handler = type("Handler", (_Ready,), {"status": status, "clock_ahead_ms": clock_ahead_ms})
    with HTTPServer(("127.0.0.1", 0), handler) as listener:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path)
            listener.socket = context.wrap_socket(listener.socket, server_side=True)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


def found(folder: Path, url: str, **variables: str) -> dict[str, tuple[Severity, str]]:
    """Check -> severity and message."""
    environ = {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_DEVICE_CLOUD_URL": url} | variables
    return {one.check: (one.severity, one.message) for one in server(load_config(None, environ), CLOCK)}


@pytest.fixture
def authority(tmp_path: Path) -> Made:
    return make(tmp_path / "authority.pem")


def test_a_server_that_is_well_has_the_same_time_and_a_certificate_that_holds(tmp_path: Path, authority: Made) -> None:
    good = make(tmp_path / "good.pem", issuer=authority)
    with serving(good) as port:
        seen = found(tmp_path, f"https://127.0.0.1:{port}", CARREL_DEVICE_CA_FILE=str(authority.path))
    assert {check: severity for check, (severity, _) in seen.items()} == dict.fromkeys(("server", "certificate", "clock"), Severity.OK)


def test_a_certificate_that_ends_soon_is_a_warning(tmp_path: Path, authority: Made) -> None:
    ending = make(tmp_path / "ending.pem", issuer=authority, to_days=5)
    with serving(ending) as port:
        seen = found(tmp_path, f"https://127.0.0.1:{port}", CARREL_DEVICE_CA_FILE=str(authority.path))
    assert seen["certificate"][0] is Severity.WARNING
    assert seen["server"][0] is Severity.OK


@pytest.mark.parametrize(("from_days", "to_days", "said"), [(-9, -1, "has expired"), (1, 9, "not valid yet")])
def test_a_certificate_of_another_time_is_an_error(tmp_path: Path, authority: Made, from_days: int, to_days: int, said: str) -> None:
    wrong = make(tmp_path / "wrong.pem", issuer=authority, from_days=from_days, to_days=to_days)
    with serving(wrong) as port:
        seen = found(tmp_path, f"https://127.0.0.1:{port}", CARREL_DEVICE_CA_FILE=str(authority.path))
    severity, message = seen["certificate"]
    assert severity is Severity.ERROR
    assert said in message
    assert "server" not in seen


def test_a_server_is_known_by_its_key_and_by_no_other(tmp_path: Path, authority: Made) -> None:
    own, other = make(tmp_path / "own.pem"), make(tmp_path / "other.pem")
    with serving(own) as port:
        known = found(tmp_path, f"https://127.0.0.1:{port}#{own.key_name}")
        unknown = found(tmp_path, f"https://127.0.0.1:{port}#{other.key_name}")
    assert known["certificate"][0] is Severity.OK
    assert unknown["certificate"][0] is Severity.ERROR
    assert "server" not in unknown, "nothing is asked of a server that has not proved who it is"


def test_a_server_that_is_not_ready_or_has_another_time_is_a_warning(tmp_path: Path) -> None:
    with serving(status=503, clock_ahead_ms=DAY_MS) as port:
        seen = found(tmp_path, f"http://127.0.0.1:{port}")
    assert seen["server"][0] is Severity.WARNING
    assert seen["clock"][0] is Severity.WARNING
    assert "behind" in seen["clock"][1]


def test_a_server_that_is_not_reached_is_a_warning_and_none_a_note(tmp_path: Path) -> None:
    assert found(tmp_path, "http://127.0.0.1:9")["server"][0] is Severity.WARNING
    assert found(tmp_path, "")["server"][0] is Severity.NOTE
