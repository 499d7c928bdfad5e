"""`carrel run` as a real process: start, stop, kill, and what is left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import stat
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
from daemon.process.stopping import EXIT_HURRIED
from daemon.service import EXIT_FAILED
from domain.bodies import decompress, to_json
from domain.clock import SystemClock
from domain.errors import AlreadyRunning, InvalidInput, NotEnrolled
from domain.ids import Id, IdSource, dashed
from domain.wire import EnrolAnswer, Limits
from migrations.runner import upgrade_device

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0
STUDENT, QUESTION, TOPIC = (Id(digit * 32) for digit in "123")
IDS = IdSource(SystemClock().now_ms)


class Server:
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
                    status, answer = ask(connection, "POST", "/v1/attempts", _attempt(id_), self._token)
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


def _attempt(id_: str) -> dict[str, Any]:
    return {"id": dashed(id_), "question_id": dashed(QUESTION), "correct": True, "answer": "4", "purpose": "free"}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def carrel(tmp_path: Path) -> Iterator[Carrel]:
    carrel = Carrel(tmp_path)
    yield carrel
    for process in carrel.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Stops the process; prints how long that took."""
    started = time.monotonic()
    process.send_signal(number)
    _, log = process.communicate(timeout=WAIT_S)
    print(f"stopped after {time.monotonic() - started:.2f} s")
    return process.returncode, log


def test_a_daemon_that_was_never_enrolled_starts_answers_and_stops(carrel: Carrel) -> None:
    process = carrel.start()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in carrel.state_dir.iterdir() if p.is_file()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(carrel.state_dir.stat().st_mode) == 0o700
    result = carrel.command("status")
    assert result.returncode == NotEnrolled.exit_code, result.stderr
    assert f"(process {process.pid})" in result.stdout
    assert "Not enrolled yet" in result.stdout
    exit_code, log = _stop(process)
    assert exit_code == 0
    assert "Traceback" not in log
    assert not (carrel.state_dir / "daemon.json").exists()
    assert not (carrel.state_dir / "control.token").exists()


def test_ctrl_c_stops_it_as_well(carrel: Carrel) -> None:
    assert _stop(carrel.start(), signal.SIGINT)[0] == 0


def test_a_second_daemon_on_the_same_folder_is_refused_with_the_pid_of_the_first(carrel: Carrel) -> None:
    process = carrel.start()
    second = carrel.command("run")
    assert second.returncode == AlreadyRunning.exit_code
    assert f"process {process.pid}" in second.stderr
    assert carrel.command("status", "--json").returncode == NotEnrolled.exit_code


def test_a_port_that_is_taken_is_a_sentence_and_leaves_nothing_behind(carrel: Carrel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        carrel.config.write_text(f"[device.api]\nport = {taken.getsockname()[1]}\n")
        result = carrel.command("run")
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert not (carrel.state_dir / "daemon.json").exists()
    carrel.config.write_text("[device.api]\nport = 0\n")
    assert _stop(carrel.start())[0] == 0


def test_stopping_under_load_loses_nothing_acknowledged_and_breaks_no_answer(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    process = carrel.start()
    load = Load(carrel, carrel.sign_in())
    load.start(acknowledged=50)
    exit_code, log = _stop(process)
    load.join()
    assert (exit_code, "Traceback" in log) == (0, False), log
    stored = carrel.stored_attempts()
    assert load.acknowledged - stored == set()
    print(f"{len(load.acknowledged)} acknowledged, {len(stored)} stored, broken off: {load.broken}")
    # A kept-alive connection may be closed between two requests; what was stored without an answer was broken off in its middle.
    assert stored - load.acknowledged == set()


def test_a_request_that_waits_for_a_hanging_server_is_answered_at_the_stop(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    process = carrel.start()
    token = carrel.sign_in()
    assert server.asked.wait(WAIT_S), "the first round hangs"
    answers: list[int] = []

    def sync() -> None:
        with closing(carrel.connect()) as connection:
            answers.append(ask(connection, "POST", "/v1/sync", token=token)[0])

    waiting = threading.Thread(target=sync)
    waiting.start()
    with closing(carrel.connect()) as connection:
        assert ask(connection, "POST", "/v1/attempts", _attempt(IDS.new()), token)[0] == 201, "writing goes on meanwhile"
    exit_code, log = _stop(process)
    waiting.join(WAIT_S)
    assert (exit_code, "Traceback" in log) == (0, False), log
    assert len(answers) == 1


@pytest.mark.parametrize("kills", [3])
def test_killing_it_loses_nothing_acknowledged(carrel: Carrel, server: Server, kills: int) -> None:
    carrel.enrol(server.url)
    acknowledged: set[str] = set()
    for _ in range(kills):
        process = carrel.start()
        load = Load(carrel, carrel.sign_in())
        load.start(acknowledged=30)
        process.kill()
        process.communicate()
        load.join()
        acknowledged |= load.acknowledged
        assert json.loads(carrel.command("status", "--json").stdout)["running"] is False
    process = carrel.start()
    with closing(carrel.connect()) as connection:
        assert ask(connection, "GET", "/v1/status")[1]["pending"] >= len(acknowledged)
    _stop(process)
    assert acknowledged - carrel.stored_attempts() == set()


def test_a_changed_file_takes_effect_and_what_needs_a_restart_is_named(carrel: Carrel) -> None:
    carrel.start()
    carrel.config.write_text("[device.api]\nport = 1\n[device.sync]\npoll_s = 0\n")
    _wait_for_notice(carrel, "must be at least 1 s")
    carrel.config.write_text("[device.api]\nport = 1\n[device.sync]\npoll_s = 5\n")
    _wait_for_notice(carrel, "restart is needed for changed settings: device.api.port")


def _wait_for_notice(carrel: Carrel, text: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if text in carrel.command("status").stdout:
            return
    pytest.fail(f"`carrel status` never said {text!r}")


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_a_device_is_enrolled_with_and_without_a_running_daemon(carrel: Carrel, school: str, daemon_runs: bool) -> None:
    if daemon_runs:
        carrel.start()
    refused = carrel.command("enrol", school, "wrong")
    assert refused.returncode != 0
    assert "The code is not valid." in refused.stderr
    done = carrel.command("enrol", school, "open-sesame", "--name", "laptop 12", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["school_name"] == "Hill School"
    assert stat.S_IMODE((carrel.state_dir / "device.token").stat().st_mode) == 0o600
    if not daemon_runs:
        carrel.start()
    assert "This is a device of Hill School." in carrel.command("status").stdout


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_an_address_on_which_the_token_could_be_read_is_refused(carrel: Carrel, daemon_runs: bool) -> None:
    if daemon_runs:
        carrel.start()
    result = carrel.command("enrol", "http://school.example", "open-sesame")
    assert result.returncode == InvalidInput.exit_code
    assert "The server's address must begin with https://" in result.stderr


def test_sync_by_hand_says_why_it_did_not_get_through(carrel: Carrel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    carrel.enrol(url)
    carrel.start()
    result = carrel.command("sync")
    assert result.returncode != 0
    assert "Everything stays queued here." in result.stdout, result.stderr


def test_the_log_holds_neither_names_nor_answers_nor_tokens(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    carrel.environ["CARREL_DEVICE_LOG_LEVEL"] = "debug"
    process = carrel.start()
    token = carrel.sign_in()
    control = (carrel.state_dir / "control.token").read_text()
    with closing(carrel.connect()) as connection:
        ask(connection, "POST", "/v1/attempts", _attempt(IDS.new()) | {"answer": "my-own-answer"}, token)
    _, log = _stop(process)
    assert "daemon.service started" in log
    for secret in ("my-own-answer", "Ada", "secret-token", token, control):
        assert secret not in log


def test_what_the_daemon_keeps_is_readable_by_its_account_alone(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    carrel.state_dir.chmod(0o755)
    process = carrel.start()
    done = subprocess.run(
        [sys.executable, "-m", "daemon.cli", "pin", "set", "ada"],
        cwd=ROOT, env=carrel.environ, text=True, input="4711\n", capture_output=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert carrel.state_dir.stat().st_mode & 0o777 == 0o700
    secrets = ("control.token", "app.token", "device.token", "pin.key")
    assert {(carrel.state_dir / name).stat().st_mode & 0o777 for name in secrets} == {0o600}
    _stop(process)
    assert [name for name in secrets if (carrel.state_dir / name).exists()] == ["device.token", "pin.key"]


def test_an_app_is_registered_listed_launched_and_removed_by_commands(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    carrel.start()
    added = carrel.command("app", "add", "Fractions", "--origin", "http://localhost:3000")
    assert (added.returncode, len(added.stdout.strip())) == (0, 43), added.stderr
    with closing(carrel.connect()) as connection:
        assert ask(connection, "GET", "/v1/students", None, added.stdout.strip())[0] == 200
    assert carrel.command("app", "list").stdout == "Fractions  http://localhost:3000\n"
    assert carrel.command("app", "launch", "Fractions").stdout.startswith("http://localhost:3000/#carrel=")
    assert carrel.command("app", "launch").returncode == 1, "the account's own app has no pages"
    assert carrel.command("app", "remove", "Fractions").returncode == 0
    assert carrel.command("app", "list").stdout == "No app is registered.\n"
    assert carrel.command("pin", "set", "nobody").returncode == 1
    nameless = carrel.command("app", "add", "")
    assert (nameless.returncode, nameless.stderr) == (2, "carrel: name: This must have at least 1 character.\n")


def test_memory_at_rest_is_printed(carrel: Carrel, server: Server) -> None:
    carrel.enrol(server.url)
    process = carrel.start()
    token = carrel.sign_in()
    load = Load(carrel, token)
    load.start(acknowledged=500)
    load.stop()
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc here")
    facts = dict(line.split(":", 1) for line in status.read_text().splitlines())
    print(f"RSS {int(facts['VmRSS'].split()[0]) / 1024:.1f} MB, {facts['Threads'].strip()} threads")
    assert "psycopg2" not in Path(f"/proc/{process.pid}/maps").read_text()


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = "from daemon.process.stopping import stop_signals\nwith stop_signals() as wait:\n print('ready', flush=True)\n wait(60)\n print('stopping', flush=True)\n import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopping\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == EXIT_HURRIED


def test_a_thread_that_hangs_does_not_hold_up_the_exit(carrel: Carrel) -> None:
    """The worst case of a stop: a connection attempt into the void, which nothing can break off."""
    hang = "import sys, threading, daemon.sync.round as r; r.SyncRound._run = lambda self: threading.Event().wait(600)"
    carrel.enrol("http://127.0.0.1:9")
    process = carrel.start(f"{hang}; sys.argv = ['carrel', 'run']; from daemon.cli import main; main()")
    exit_code, log = _stop(process)
    assert exit_code == 0
    assert "threads were left behind" in log
    carrel.stored_attempts()


def test_a_failed_database_ends_the_process_with_an_error_for_the_service_manager(carrel: Carrel) -> None:
    fail = "import sys, daemon.service as s; s.HEALTH_CHECK_S = 0.1; s.Service.failure = lambda self: 'DatabaseError'"
    process = carrel.start(f"{fail}; sys.argv = ['carrel', 'run']; from daemon.cli import main; main()")
    _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == EXIT_FAILED
    assert "stopping, for a new process to open the database" in log
