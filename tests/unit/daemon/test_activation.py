from __future__ import annotations

import os
import socket

import pytest

from daemon.process.activation import inherited_sockets, taken_over

HERE = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}


def test_a_socket_that_was_passed_serves_its_address_and_no_other() -> None:
    environ = dict(HERE)
    with socket.create_server(("127.0.0.1", 0)) as opened:
        port = opened.getsockname()[1]
        (found,) = inherited_sockets(environ, os.dup(opened.fileno()))
        with found:
            assert environ == {}
            assert not os.get_inheritable(found.fileno())
            assert taken_over([found], "127.0.0.1", port) is found
            assert taken_over([found], "127.0.0.1", port + 1) is None
            assert taken_over([found], "::1", port) is None


@pytest.mark.parametrize("changed", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": ""}], ids=str)
def test_what_was_passed_to_another_process_is_left_alone(changed: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        assert inherited_sockets(HERE | changed, opened.fileno()) == []
        assert opened.getsockname()


def test_what_is_no_listening_socket_is_not_served(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as quiet, os.fdopen(reading), os.fdopen(writing, "w"):
        assert inherited_sockets(dict(HERE), quiet.fileno()) == []
        assert inherited_sockets(dict(HERE), reading) == []
    assert len(caplog.records) == 2
