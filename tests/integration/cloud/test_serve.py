"""`carrel-cloud serve` over real sockets: slow clients, broken HTTP, and the refusals that no route has made."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
import urllib3

from cloud_api.embedded import DatabaseServer
from tests.support.postgres import temporary_database

START_TIMEOUT_S = 60
TIMEOUT_S = 20.0
ARRIVES_MAX_S = 1
THREADS = 2
HEAD = b"POST /v1/devices/enrol HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def port(postgres: DatabaseServer, cloud_template: str) -> Iterator[int]:
    """The port of a server with few threads and little patience."""
    with temporary_database(postgres, cloud_template) as url:
        yield from _serving(url)


def _serving(database_url: str) -> Iterator[int]:
    environ = {
        "DATABASE_URL": database_url,
        "CARREL_CLOUD_SERVER_THREADS": str(THREADS),
        "CARREL_CLOUD_SERVER_ARRIVES_MAX_S": str(ARRIVES_MAX_S),
    }
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
    with subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], START_TIMEOUT_S)[0], "the server never said where it listens"
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


def talk(port: int, request: bytes) -> bytes:
    """Sends bytes and returns all that comes back until the server closes."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S)) as sock:
        sock.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while received := sock.recv(65536):
                answer += received
    return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="no http"),
        pytest.param(HEAD + b"Content-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431, id="header without end"),
        pytest.param(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414, id="address without end"),
        pytest.param(HEAD + b"Transfer-Encoding: foo\r\n\r\n", 501, id="unknown coding"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="chunk that is none"),
        pytest.param(HEAD + b"Content-Length: 50\r\n\r\n{", 400, id="body that does not arrive"),
    ],
)
def test_what_is_no_request_is_refused_in_the_one_shape(port: int, request_: bytes, status: int) -> None:
    head, _, body = talk(port, request_).partition(b"\r\n\r\n")
    assert int(head.split(b" ")[1]) == status
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["code"] not in ("", "internal")


def test_clients_that_never_finish_do_not_keep_the_threads(port: int) -> None:
    stuck = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(2 * THREADS)]
    try:
        for number, sock in enumerate(stuck):
            sock.sendall(HEAD + b"Content-Length: 50\r\n\r\n{" if number % 2 else HEAD)
        with urllib3.PoolManager() as http:
            assert http.request("GET", f"http://127.0.0.1:{port}/healthz", timeout=TIMEOUT_S, retries=False).status == 200
    finally:
        for sock in stuck:
            sock.close()


# `carrel-cloud serve` whose first worker is told to stop before it has taken the first step of its own.
STOPPED_AT_BIRTH = """
import os, signal
from cloud_api.cli import main
from cloud_api.serving.worker import Worker

def init_process(worker, begin=Worker.init_process):
    if worker.age == 1:
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    begin(worker)

Worker.init_process = init_process
main(["serve", "--port", "0", "--workers", "1", "--no-migrate"])
"""


def test_a_worker_that_is_told_to_stop_in_its_first_moment_stops(cloud_database: str) -> None:
    environ = os.environ | {"DATABASE_URL": cloud_database}
    with subprocess.Popen([sys.executable, "-c", STOPPED_AT_BIRTH], env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(2)]
            [stopped] = [int(line) for line in said if line.strip().isdigit()]
            [port] = [int(line.rpartition(":")[2]) for line in said if "listens" in line]
            deadline_s = time.monotonic() + TIMEOUT_S
            while _exists(stopped):
                assert time.monotonic() < deadline_s, "it never heard of the signal"
                time.sleep(0.05)
            with urllib3.PoolManager() as http:
                assert http.request("GET", f"http://127.0.0.1:{port}/healthz", timeout=TIMEOUT_S).status == 200, "another took its place"
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_address_that_is_taken_is_said_at_once_in_a_sentence(cloud_database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", str(port)]
        environ = os.environ | {"DATABASE_URL": cloud_database}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert f"The server cannot listen on 127.0.0.1:{port}: Address already in use." in done.stderr
    assert "Traceback" not in done.stderr
