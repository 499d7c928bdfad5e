"""`carrel run` as a real process over a state folder, schools that it can ask, and students who answer without a pause."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from daemon.config import DATABASE_NAME
from daemon.database import DeviceDatabase
from daemon.identity.device import Identity
from daemon.models import MODELS
from daemon.process.state_folder import read_app_token
from domain.bodies import decompress, to_json
from domain.clock import SystemClock
from domain.ids import Id, IdSource, dashed
from domain.wire import EnrolAnswer, Limits
from migrations.runner import upgrade_device

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
STUDENT, QUESTION, TOPIC = (Id(digit * 32) for digit in "123")
IDS = IdSource(SystemClock().now_ms)


class SilentServer:
    """A school's server that takes every connection and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        """Holds on to every connection until the end. Only this thread closes them: none is taken that nobody closes."""
        with ExitStack() as taken:
            taken.enter_context(self._listener)
            while not self._stopping.is_set():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                taken.enter_context(connection).settimeout(WAIT_S)
                with suppress(OSError):
                    if connection.recv(1):
                        self.asked.set()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(2 * WAIT_S)


class _Enrolling(BaseHTTPRequestHandler):
    """A school's server that takes the code `open-sesame` and is too busy for everything else."""

    def do_POST(self) -> None:
        body = decompress(self.rfile.read(int(self.headers["Content-Length"])), self.headers.get("Content-Encoding", ""))
        if self.path == "/v1/devices/enrol" and json.loads(body)["code"] == "open-sesame":
            self._answer(201, "application/json", to_json(EnrolAnswer(IDS.new(), "a" * 32, "Hill School", "token", IDS.new(), Limits())))
        else:
            self._answer(403, "application/problem+json", b'{"code": "enrolment_code", "detail": "The code is not valid."}')

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def school() -> Iterator[str]:
    """The address of a server at which devices can enrol."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Enrolling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(WAIT_S)


class Carrel:
    """A state folder and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.state_dir = folder / "state"
        self.config = folder / "etc" / "config.toml"
        self.config.parent.mkdir()
        self.config.write_text("[device.api]\nport = 0\n[device.sign_in]\nsingle_student_without_pin = true\n")
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("CARREL_") and k != "SQLITE_DATABASE_URL"}
        self.environ |= {"CARREL_CONFIG": str(self.config), "CARREL_DEVICE_STATE_DIR": str(self.state_dir)}
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, code: str | None = None) -> subprocess.Popen[str]:
        """Runs `carrel run`, or code in its place; returns once it listens."""
        process = subprocess.Popen(
            [sys.executable, *(["-c", code] if code else ["-m", "daemon.cli", "run"])],
            cwd=ROOT,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("Carrel listens on http://127.0.0.1:"):
            process.kill()
            pytest.fail(f"it did not start: {process.communicate()[1]}")
        return process

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "daemon.cli", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, text=True, capture_output=True, timeout=WAIT_S, check=False)

    def address(self) -> tuple[str, int]:
        announced = json.loads((self.state_dir / "daemon.json").read_text())
        return announced["host"], announced["port"]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address(), timeout=WAIT_S)

    def sign_in(self) -> str:
        with closing(self.connect()) as connection:
            return str(ask(connection, "POST", "/v1/sessions", {"student_id": STUDENT}, read_app_token(self.state_dir))[1]["token"])

    def enrol(self, cloud_url: str) -> None:
        """What an enrolment and a first pull leave behind, without a server."""
        self.state_dir.mkdir(mode=0o700, exist_ok=True)
        path = self.state_dir / DATABASE_NAME
        upgrade_device(path)
        database = DeviceDatabase(path)
        database.open(MODELS)
        answer = EnrolAnswer(IDS.new(), "a" * 32, "Hill School", "secret-token", IDS.new(), Limits())
        Identity(database, self.state_dir, SystemClock(), IDS).adopt(answer, cloud_url)
        database.write(_seed)
        database.close()

    def stored_attempts(self) -> set[str]:
        """Only while no daemon runs."""
        with closing(sqlite3.connect(self.state_dir / DATABASE_NAME)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = {row for (row,) in conn.execute("SELECT id FROM question_attempts")}
            queued = {row for (row,) in conn.execute("SELECT row_id FROM sync_operations WHERE table_name = 'question_attempts'")}
        assert rows == queued, "every attempt has its operation"
        return rows


def _seed(conn: sqlite3.Connection) -> None:
    conn.execute("INSERT INTO users (id, role, username, display_name) VALUES (?, 'student', 'ada', 'Ada')", (STUDENT,))
    conn.execute("INSERT INTO cursors (scope, cursor) VALUES (?, 1)", (f"student:{STUDENT}",))
    conn.execute("INSERT INTO topics (id, title, level, position) VALUES (?, 'Roots', 'chapter', 1)", (TOPIC,))
    conn.execute(
        "INSERT INTO questions (id, topic_id, concept_ids, kind, stem, answers) VALUES (?, ?, '[]', 'short_text', 'x', '[]')",
        (QUESTION, TOPIC),
    )


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, token: str | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read() or b"{}")


class Load:
    """Students who answer without a pause, each over a connection of its own. `acknowledged` are the attempts answered with 201."""

    def __init__(self, carrel: Carrel, token: str, students: int = 6) -> None:
        self._carrel, self._token = carrel, token
        self.acknowledged: set[str] = set()
        self.broken: list[str] = []
        self._enough = threading.Event()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._answer) for _ in range(students)]

    def start(self, acknowledged: int) -> None:
        """Returns once so many attempts are acknowledged."""
        self._wanted = acknowledged
        for thread in self._threads:
            thread.start()
        assert self._enough.wait(WAIT_S)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _answer(self) -> None:
        with closing(self._carrel.connect()) as connection:
            while not self._stopped.is_set():
                id_ = IDS.new()
                try:
                    status, answer = ask(connection, "POST", "/v1/attempts", attempt(id_), self._token)
                except ConnectionRefusedError:
                    return
                except (http.client.HTTPException, OSError) as error:
                    self.broken.append(repr(error))
                    return
                if status != 201:
                    assert status == 503, answer
                    return
                self.acknowledged.add(id_)
                if len(self.acknowledged) >= self._wanted:
                    self._enough.set()


def attempt(id_: str) -> dict[str, Any]:
    """The body of a request that reports an answer."""
    return {"id": dashed(id_), "question_id": dashed(QUESTION), "correct": True, "answer": "4", "purpose": "free"}


@pytest.fixture
def server() -> Iterator[SilentServer]:
    """A school's server that never answers."""
    server = SilentServer()
    yield server
    server.close()


@pytest.fixture
def carrel(tmp_path: Path) -> Iterator[Carrel]:
    """A state folder of this test's own; what still runs in the end is killed."""
    carrel = Carrel(tmp_path)
    yield carrel
    for process in carrel.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Stops the process; prints how long that took."""
    started = time.monotonic()
    process.send_signal(number)
    _, log = process.communicate(timeout=WAIT_S)
    print(f"stopped after {time.monotonic() - started:.2f} s")
    return process.returncode, log
