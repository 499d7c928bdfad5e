"""Both loopback addresses are the daemon's, so that nobody else is `localhost`."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing, suppress

import pytest
from flask import Flask

from daemon.api import listeners
from daemon.api.listeners import Listeners
from daemon.config import ApiSettings
from domain.errors import OperatorError

pytestmark = pytest.mark.skipif(not listeners._exists("::1"), reason="this machine has no IPv6")


@pytest.fixture
def app() -> Flask:
    made = Flask("test")
    made.config["MAX_CONTENT_LENGTH"] = 1_000
    made.add_url_rule("/", "root", lambda: "here")
    return made


def asked(host: str, port: int) -> int:
    with closing(http.client.HTTPConnection(host, port, timeout=10)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().status


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_loopback_addresses_answer_on_one_port_until_the_stop(app: Flask, host: str) -> None:
    running = Listeners(app, ApiSettings(host=host, port=0))
    running.start()
    try:
        assert [asked(address, running.port) for address in ("127.0.0.1", "::1")] == [200, 200]
    finally:
        running.stop(5.0)
    for address in ("127.0.0.1", "::1"):
        with pytest.raises(OSError, match="refused"), suppress(http.client.HTTPException):
            asked(address, running.port)


def test_where_somebody_else_has_the_other_address_it_does_not_start(app: Flask) -> None:
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as taken:
        running = Listeners(app, ApiSettings(port=taken.getsockname()[1]))
        with pytest.raises(OperatorError, match="cannot listen on ::1"):
            running.start()
        with pytest.raises(OSError, match="refused"):
            asked("127.0.0.1", taken.getsockname()[1])


def test_an_address_that_systemd_holds_is_served_also_where_this_machine_has_it_not_yet(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_exists", lambda _address: False)
    with closing(socket.create_server(("127.0.0.1", 0))) as first:
        port = first.getsockname()[1]
        with closing(socket.create_server(("::1", port), family=socket.AF_INET6)) as second:
            running = Listeners(app, ApiSettings(port=port), [second.dup(), first.dup()])
            running.start()
            try:
                assert [asked(address, running.port) for address in ("127.0.0.1", "::1")] == [200, 200]
            finally:
                running.stop(5.0)


def test_without_the_other_address_there_is_one(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_exists", lambda _address: False)
    running = Listeners(app, ApiSettings(port=0))
    running.start()
    try:
        assert asked("127.0.0.1", running.port) == 200
        with pytest.raises(OSError, match="refused"):
            asked("::1", running.port)
    finally:
        running.stop(5.0)
