"""The localhost listener over real sockets: addresses, limits, slow clients, stopping."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import urllib3

from daemon.api.server import HEADER_BYTES_MAX, LocalServer
from domain.errors import OperatorError
from tests.support.device import ADA, APP_TOKEN, BEN, DeviceUnderTest, Settings, attempt, open_device

ARRIVES_MAX_S = 0.5
THREADS = 4
TIMEOUT_S = 10.0


AUTHORIZED = f"Authorization: Bearer {APP_TOKEN}\r\n".encode()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    """A device with a single student, who needs no PIN."""
    with open_device(tmp_path, Settings(single_student_without_pin=True)) as opened:
        opened.execute("DELETE FROM cursors WHERE scope = ?", f"student:{BEN}")
        yield opened


@pytest.fixture
def server(device: DeviceUnderTest) -> Iterator[LocalServer]:
    made = LocalServer(device.app, "127.0.0.1", 0, THREADS, ARRIVES_MAX_S)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def pool(server: LocalServer) -> Iterator[urllib3.HTTPConnectionPool]:
    with urllib3.HTTPConnectionPool("127.0.0.1", server.port, maxsize=20, timeout=TIMEOUT_S, retries=False) as made:
        yield made


def token(pool: urllib3.HTTPConnectionPool) -> str:
    answer = pool.request("POST", "/v1/sessions", json={"student_id": ADA}, headers={"Authorization": f"Bearer {APP_TOKEN}"})
    return str(answer.json()["token"])


def headers(pool: urllib3.HTTPConnectionPool) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(pool)}", "Content-Type": "application/json"}


def talk(server: LocalServer, *parts: bytes, pause_s: float = 0.0) -> bytes:
    """Sends parts over a socket of its own and returns all that comes back until the server closes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)) as sock:
        waiting = threading.Event()
        for part in parts:
            try:
                sock.sendall(part)
            except OSError:
                break
            waiting.wait(pause_s)
        answer = b""
        while received := sock.recv(65536):
            answer += received
    return answer


def test_answers_are_recorded_over_a_kept_connection(device: DeviceUnderTest, pool: urllib3.HTTPConnectionPool) -> None:
    with_token = headers(pool)
    for _ in range(5):
        assert pool.request("POST", "/v1/attempts", body=json.dumps(attempt()), headers=with_token).status == 201
    assert pool.num_connections == 1
    assert device.rows("SELECT count(*) FROM question_attempts") == [(5,)]


def test_sixteen_clients_at_once_lose_nothing(device: DeviceUnderTest, pool: urllib3.HTTPConnectionPool) -> None:
    with_token = headers(pool)

    def write(_: int) -> list[int]:
        return [pool.request("POST", "/v1/attempts", body=json.dumps(attempt()), headers=with_token).status for _ in range(5)]

    with ThreadPoolExecutor(16) as threads:
        statuses = [s for some in threads.map(write, range(16)) for s in some]
    assert statuses == [201] * 80
    assert device.rows("SELECT count(*) FROM question_attempts") == [(80,)]


def test_the_own_port_belongs_to_the_host(pool: urllib3.HTTPConnectionPool, server: LocalServer) -> None:
    def status(host: str) -> int:
        return pool.request("GET", "/v1/health", headers={"Host": host}).status

    assert [status(f"{name}:{server.port}") for name in ("localhost", "127.0.0.1", "[::1]")] == [200, 200, 200]
    assert [status(host) for host in ("localhost", f"localhost:{server.port + 1}", "evil.example")] == [403, 403, 403]


def test_a_port_that_is_taken_is_named(device: DeviceUnderTest, server: LocalServer) -> None:
    second = LocalServer(device.app, "127.0.0.1", server.port, THREADS)
    with pytest.raises(OperatorError, match=rf"127\.0\.0\.1:{server.port}.*in use"):
        second.start()
    second.stop()


def chunks(size: int, count: int) -> Iterator[bytes]:
    return (b" " * size for _ in range(count))


@pytest.fixture
def patient(device: DeviceUnderTest) -> Iterator[urllib3.HTTPConnectionPool]:
    """Reaches a server that gives a body all the time that it has outside of tests."""
    made = LocalServer(device.app, "127.0.0.1", 0, THREADS)
    made.start()
    with urllib3.HTTPConnectionPool("127.0.0.1", made.port, timeout=TIMEOUT_S, retries=False) as pool:
        yield pool
    made.stop()


@pytest.mark.parametrize(("size", "count"), [(64 * 1024, 64), (3_000_000, 1), (50, 20_000)])
def test_a_body_in_chunks_over_the_limit_is_refused(patient: urllib3.HTTPConnectionPool, size: int, count: int) -> None:
    refused = patient.request("POST", "/v1/attempts", body=chunks(size, count), headers=headers(patient), chunked=True)
    assert (refused.status, refused.json()["code"]) == (413, "body_too_large")


def test_a_body_in_chunks_within_the_limit_is_read(device: DeviceUnderTest, pool: urllib3.HTTPConnectionPool) -> None:
    text = json.dumps(attempt(answer="yes")).encode()
    body = (text[i : i + 7] for i in range(0, len(text), 7))
    with_token = headers(pool)
    assert pool.request("POST", "/v1/attempts", body=body, headers=with_token, chunked=True).status == 201
    assert pool.request("GET", "/v1/me", headers=with_token).status == 200


def test_the_refusal_of_a_large_body_reaches_a_client_that_sends_all_of_it_first(server: LocalServer) -> None:
    size = 8_000_000
    head = b"POST /v1/attempts HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n" % (server.port, size)
    with closing(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)) as sock:
        sock.sendall(head)
        sock.sendall(b" " * size)
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_an_unread_body_in_chunks_does_not_become_the_next_request(server: LocalServer) -> None:
    smuggled = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    head = b"POST /v1/attempts HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(server, head + b"%x\r\n" % len(smuggled) + smuggled)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 401")


def test_what_follows_a_body_in_chunks_is_not_taken_for_a_request(server: LocalServer) -> None:
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    body = b"11\r\n" + b'{"username":"ada"' + b"\r\n1\r\n}\r\n0\r\nX-Checksum: 5\r\n\r\n"
    last = b"GET /v1/health HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
    answer = talk(server, post(host, b"Transfer-Encoding: chunked") + body + last)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"201", b"200"]


@pytest.mark.parametrize(
    "length", [b"-1", b"+5", b"1_0", b"5, 5", b"5\r\n 6", b"5\r\nContent-Length: 6", b"5\r\nTransfer-Encoding: chunked"]
)
def test_a_length_that_is_none_is_refused_before_a_body_is_waited_for(device: DeviceUnderTest, length: bytes) -> None:
    patient = LocalServer(device.app, "127.0.0.1", 0, THREADS, arrives_max_s=10 * TIMEOUT_S)
    patient.start()
    try:
        answer = talk(patient, post(b"Host: 127.0.0.1:%d\r\n" % patient.port, b"Content-Length: " + length))
    finally:
        patient.stop()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_request"' in answer


def post(host: bytes, header: bytes) -> bytes:
    """The head of a request with a JSON body to come."""
    return b"POST /v1/sessions HTTP/1.1\r\n" + host + AUTHORIZED + b"Content-Type: application/json\r\n" + header + b"\r\n\r\n"


BROKEN: dict[str, tuple[Callable[[bytes], bytes], bytes]] = {
    "no http": (lambda host: b"hello\r\n\r\n", b"400"),
    "header without end": (lambda host: b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * HEADER_BYTES_MAX * 2, b"413"),
    "address without end": (lambda host: b"GET /" + b"x" * HEADER_BYTES_MAX * 2, b"414"),
    "length that is none": (lambda host: b"POST /v1/sync HTTP/1.1\r\n" + host + b"Content-Length: x\r\n\r\n", b"400"),
    "method that is none of its own": (lambda host: b"CONNECT /v1/sync HTTP/1.1\r\n" + host + b"\r\n", b"405"),
    "two hosts": (lambda host: b"GET /v1/health HTTP/1.1\r\n" + host + b"Host: elsewhere\r\n\r\n", b"400"),
    "coding that is unknown": (lambda host: post(host, b"Transfer-Encoding: gzip, chunked"), b"501"),
    "version that is unknown": (lambda host: b"GET /v1/health HTTP/2.0\r\n" + host + b"\r\n", b"505"),
    "chunk that is none": (
        lambda host: post(host, b"Transfer-Encoding: chunked") + b"zz\r\n",
        b"400",
    ),
    "chunk size without end": (
        lambda host: post(host, b"Transfer-Encoding: chunked") + b"1" * 4_000_000,
        b"413",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_http_is_refused_in_the_one_shape_and_the_server_lives_on(
    server: LocalServer, pool: urllib3.HTTPConnectionPool, name: str
) -> None:
    make, status = BROKEN[name]
    answer = talk(server, make(f"Host: 127.0.0.1:{server.port}\r\n".encode()))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == int(status)
    assert problem["code"] != "internal"
    assert pool.request("GET", "/v1/health").status == 200


@pytest.mark.parametrize("slow_part", ["head", "body"])
def test_a_request_that_trickles_in_is_cut_off_although_each_byte_comes_in_time(server: LocalServer, slow_part: str) -> None:
    body = b'{"username": "ada"}'
    head = (
        b"POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port
        + AUTHORIZED
        + b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    )
    assert b" 201 " in talk(server, head + body)
    slow = [head[i : i + 6] for i in range(0, len(head), 6)] if slow_part == "head" else [head, *(bytes([b]) for b in body)]
    rest = [body] if slow_part == "head" else []
    try:
        answer = talk(server, *slow, *rest, pause_s=ARRIVES_MAX_S / 8)
    except ConnectionResetError:
        answer = b""  # it closed while more was on the way
    assert b" 201 " not in answer


@pytest.mark.parametrize("length", [b"Content-Length: 40", b"Transfer-Encoding: chunked"])
def test_a_body_that_stops_coming_is_answered_as_something_to_send_again(device: DeviceUnderTest, length: bytes) -> None:
    """A laptop that was closed in the middle of a request: an app that took this for its own fault would drop the answer."""
    patient = LocalServer(device.app, "127.0.0.1", 0, threads=2, arrives_max_s=0.3)
    patient.start()
    try:
        answer = talk(patient, post(b"Host: 127.0.0.1:%d\r\n" % patient.port, length) + b"5\r\n{")
    finally:
        patient.stop()
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert (head.split(b" ")[1], problem["code"], problem["retryable"]) == (b"408", "too_slow", True)
    assert b"connection: close" in head.lower()


def test_silent_connections_do_not_keep_the_threads(server: LocalServer, pool: urllib3.HTTPConnectionPool) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(THREADS * 2)]
    try:
        assert pool.request("GET", "/v1/health").status == 200
    finally:
        for sock in silent:
            sock.close()


def test_stopping_answers_the_request_under_way_and_leaves_no_thread(device: DeviceUnderTest) -> None:
    entered, proceed = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    @device.app.get("/v1/slow")
    def slow() -> str:
        entered.set()
        proceed.wait(TIMEOUT_S)
        return "done"

    server = LocalServer(device.app, "127.0.0.1", 0, THREADS)
    server.start()
    with ThreadPoolExecutor(2) as threads, urllib3.HTTPConnectionPool("127.0.0.1", server.port, timeout=TIMEOUT_S, retries=False) as pool:
        answer = threads.submit(pool.request, "GET", "/v1/slow")
        assert entered.wait(TIMEOUT_S)
        stopped = threads.submit(server.stop, TIMEOUT_S)
        proceed.set()
        assert answer.result(TIMEOUT_S).data == b"done"
        stopped.result(TIMEOUT_S)
        with pytest.raises(urllib3.exceptions.HTTPError):
            pool.request("GET", "/v1/health")
    server.stop()
    assert {t for t in threading.enumerate() if t not in before and t.name.startswith(("http", "CP Server"))} == set()


def test_a_request_that_arrives_while_the_server_is_stopping_is_answered_like_any_other(device: DeviceUnderTest) -> None:
    server = LocalServer(device.app, "127.0.0.1", 0, THREADS)
    server.start()
    inner = server._server
    with ThreadPoolExecutor(1) as threads, socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        request = f"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
        client.sendall(request[:20])
        _wait_until(lambda: inner.requests.idle == THREADS - 1)
        stopped = threads.submit(server.stop, TIMEOUT_S)
        _wait_until(lambda: not inner.ready)
        client.sendall(request[20:])
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        stopped.result(TIMEOUT_S)


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_stopping_does_not_wait_without_end_for_a_handler_that_hangs(device: DeviceUnderTest) -> None:
    entered, proceed = threading.Event(), threading.Event()

    @device.app.get("/v1/stuck")
    def stuck() -> str:
        entered.set()
        proceed.wait(TIMEOUT_S)
        return "late"

    server = LocalServer(device.app, "127.0.0.1", 0, THREADS)
    server.start()
    with ThreadPoolExecutor(1) as threads, urllib3.HTTPConnectionPool("127.0.0.1", server.port, timeout=TIMEOUT_S, retries=False) as pool:
        answer = threads.submit(pool.request, "GET", "/v1/stuck")
        assert entered.wait(TIMEOUT_S)
        server.stop(0.1)
        assert not proceed.is_set()
        proceed.set()
        assert answer.result(TIMEOUT_S).data == b"late"
