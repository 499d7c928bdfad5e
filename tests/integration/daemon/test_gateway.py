"""Whatever answers in place of the school's server, nothing is taken for an answer that is none, and the queue stays."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from daemon import gateway as gateway_module
from daemon.access.online import ASKED_AT_ONCE_MAX, SchoolSignIn
from daemon.gateway import HttpGateway, check_url
from daemon.identity.device import Identity
from daemon.identity.enrolment import Enrolment
from daemon.records import NewAttempt
from daemon.sync.round import SyncRound
from domain.bodies import compress, to_json
from domain.errors import CloudUnreachable, Forbidden, InvalidConfig, RateLimited
from domain.wire import HeadAnswer, Limits, PushAnswer
from tests.support.device import ADA, QUESTIONS, DeviceUnderTest, open_device

GOOD_HEAD = to_json(HeadAnswer(1, 2, "epoch", 30.0))


def http(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def answering(reply: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads a request and lets `reply` write what it likes; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with closing(connection):
                connection.settimeout(5)
                connection.recv(65_536)
                reply(connection)
                with suppress(OSError):  # what is unread when it is closed would reset it, and take the answer with it
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65_536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        listener.close()


def sending(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    with open_device(tmp_path) as opened:
        yield opened


@pytest.fixture
def opened() -> Iterator[Callable[[str], HttpGateway]]:
    """Opens gateways, and closes them at the end."""
    with ExitStack() as closing_all:

        def open_gateway(url: str) -> HttpGateway:
            gateway = HttpGateway(url)
            closing_all.callback(gateway.close)
            return gateway

        yield open_gateway


JSON = "Content-Type: application/json"
PROBLEM = "Content-Type: application/problem+json"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (sending(http("200 OK", b"<html>Please sign in</html>", "Content-Type: text/html")), "not_carrel"),
        (sending(http("302 Found", b"", "Location: http://127.0.0.1/login")), "not_carrel"),
        (sending(http("404 Not Found", b"<html>", "Content-Type: text/html")), "not_carrel"),
        (sending(http("200 OK", b"", JSON)), "bad_answer"),
        (sending(http("200 OK", b'{"acked_through":', JSON)), "bad_answer"),
        (sending(http("200 OK", b'{"acked_through":true}', JSON)), "bad_answer"),
        (sending(http("200 OK", b"[]", JSON)), "bad_answer"),
        (sending(http("200 OK", GOOD_HEAD, JSON)), "bad_answer"),
        (sending(http("200 OK", compress(b"{}")[:-2], JSON, "Content-Encoding: zstd")), "bad_answer"),
        (sending(http("200 OK", compress(b"0" * 50_000_000), JSON, "Content-Encoding: zstd")), "bad_answer"),
        (sending(http("200 OK", GOOD_HEAD, JSON).replace(b"Content-Length: ", b"Content-Length: 9")), "bad_answer"),
        (sending(b""), "bad_answer"),
        (sending(b"not http at all\r\n\r\n"), "bad_answer"),
        (sending(http("500 Internal Server Error", b"oops")), "server_error"),
        (sending(http("503 Service Unavailable", b'{"code":"unavailable","detail":"busy"}', PROBLEM, "Retry-After: 7")), "server_error"),
        (sending(http("401 Unauthorized", b'{"code":"not_signed_in"}', PROBLEM)), "unauthorised"),
        (sending(http("429 Too Many Requests", b'{"code":"rate_limited"}', PROBLEM, "Retry-After: 7")), "rate_limited"),
        (sending(http("429 Too Many Requests", b"<html>nginx</html>", "Content-Type: text/html", "Retry-After: 7")), "rate_limited"),
        (sending(http("413 Request Entity Too Large", b"<html>nginx</html>", "Content-Type: text/html")), "too_large"),
    ],
)
def test_a_cloud_that_gives_no_usable_answer_leaves_the_queue_and_its_reason_in_the_status(
    device: DeviceUnderTest, opened: Callable[[str], HttpGateway], reply: Callable[[socket.socket], None], reason: str
) -> None:
    with answering(reply) as url:
        device.execute("UPDATE identity SET cloud_url = ?", url)
        device.records.record_attempts(ADA, [NewAttempt(QUESTIONS[0], True, "free")])
        rounds = SyncRound(device.database, _identity(device), device.clock, opened)
        assert rounds.run().outcome == reason
        status = rounds.status()
        assert (status.state, status.reason, status.pending) == ("waiting", reason, 1)
        assert status.message
        assert rounds.run().outcome == "backing_off"


def _identity(device: DeviceUnderTest) -> Identity:
    identity = device.rounds._identity
    identity.forget_cached()
    return identity


def test_a_code_that_the_school_does_not_take_is_told_from_a_token_that_it_does_not_know(
    device: DeviceUnderTest, opened: Callable[[str], HttpGateway]
) -> None:
    refusal = http("403 Forbidden", b'{"code":"enrolment_refused","detail":"The code is wrong."}', PROBLEM)
    with answering(sending(refusal)) as url, pytest.raises(Forbidden) as refused:
        Enrolment(device.rounds._identity, opened).enrol(url, "KQ4M-7TXD-2PFH", "desk")
    assert refused.value.code == "enrolment_refused"


def test_an_answer_that_acknowledges_something_else_settles_nothing(device: DeviceUnderTest, opened: Callable[[str], HttpGateway]) -> None:
    device.records.record_attempts(ADA, [NewAttempt(QUESTIONS[0], True, "free")])
    lie = to_json(PushAnswer(1, "0" * 32, [], [], 2, "epoch", Limits(), 30.0))
    with answering(sending(http("200 OK", lie, JSON))) as url:
        device.execute("UPDATE identity SET cloud_url = ?", url)
        rounds = SyncRound(device.database, _identity(device), device.clock, opened)
        assert rounds.run().outcome == "bad_answer"
    assert device.rows("SELECT state FROM sync_operations") == [("pending",)]


def test_no_one_listening_is_being_offline(opened: Callable[[str], HttpGateway]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CloudUnreachable) as failure:
        opened(f"http://127.0.0.1:{port}").head("token", None)
    assert failure.value.reason == "offline"


def test_a_server_that_never_answers_is_left_at_the_time_out(monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], HttpGateway]) -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(1)

    monkeypatch.setattr(gateway_module, "READ_TIMEOUT_S", 0.2)
    with answering(silent) as url, pytest.raises(CloudUnreachable) as failure:
        opened(url).head("token", None)
    assert failure.value.reason == "timeout"


def test_a_hanging_request_ends_when_the_gateway_is_aborted(opened: Callable[[str], HttpGateway]) -> None:
    reached = threading.Event()

    def hang(connection: socket.socket) -> None:
        reached.set()
        connection.recv(1)

    failures: list[CloudUnreachable] = []
    with answering(hang) as url:
        gateway = opened(url)

        def ask() -> None:
            try:
                gateway.head("token", None)
            except CloudUnreachable as failure:
                failures.append(failure)

        asking = threading.Thread(target=ask)
        asking.start()
        assert reached.wait(5)
        started = time.monotonic()
        gateway.abort()
        asking.join(10)
        assert not asking.is_alive()
        assert time.monotonic() - started < gateway_module.READ_TIMEOUT_S / 2
    assert len(failures) == 1
    with pytest.raises(CloudUnreachable, match="stopping"):
        gateway.head("token", None)


def test_while_the_school_hangs_no_more_than_two_wait_for_its_word_on_a_password(device: DeviceUnderTest) -> None:
    asked, answered = threading.Semaphore(0), threading.Event()

    def hang(*_: object) -> NoReturn:
        asked.release()
        assert answered.wait(5)
        raise CloudUnreachable("timeout", "No answer.")

    device.gateway.sign_in = hang  # type: ignore[method-assign]
    school = SchoolSignIn(_identity(device), lambda url: device.gateway)
    with ThreadPoolExecutor(ASKED_AT_ONCE_MAX) as pool:
        waiting = [pool.submit(school.student, "ada", "secret") for _ in range(ASKED_AT_ONCE_MAX)]
        assert all(asked.acquire(timeout=5) for _ in waiting)
        with pytest.raises(RateLimited):
            school.student("ben", "secret")
        answered.set()
        assert [done.result(5) for done in waiting] == [None] * ASKED_AT_ONCE_MAX
    assert school.student("ben", "secret") is None


@pytest.mark.parametrize("url", ["", "school.example", "ftp://school.example", "http://school.example", "http://10.0.0.7:8751", "https://"])
def test_an_address_that_would_send_the_token_in_the_clear_or_nowhere_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig):
        check_url(url)


@pytest.mark.parametrize("url", ["https://school.example", "http://127.0.0.1:8751", "http://localhost:1", "http://[::1]:8751"])
def test_https_anywhere_and_http_on_this_machine_are_accepted(url: str) -> None:
    check_url(url)
