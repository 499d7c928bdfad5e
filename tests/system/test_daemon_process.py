"""`carrel run` as a real process: start, stop, kill, and what is left."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from daemon.process.stopping import EXIT_HURRIED
from daemon.service import EXIT_FAILED
from domain.errors import AlreadyRunning, NotEnrolled
from tests.support.daemon_process import IDS, ROOT, WAIT_S, Carrel, Load, SilentServer, ask, attempt, carrel, server, stop

__all__ = ["carrel", "server"]


def test_a_daemon_that_was_never_enrolled_starts_answers_and_stops(carrel: Carrel) -> None:
    process = carrel.start()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in carrel.state_dir.iterdir() if p.is_file()}
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE(carrel.state_dir.stat().st_mode) == 0o700
    result = carrel.command("status")
    assert result.returncode == NotEnrolled.exit_code, result.stderr
    assert f"(process {process.pid})" in result.stdout
    assert "Not enrolled yet" in result.stdout
    exit_code, log = stop(process)
    assert exit_code == 0
    assert "Traceback" not in log
    assert not (carrel.state_dir / "daemon.json").exists()
    assert not (carrel.state_dir / "control.token").exists()


def test_ctrl_c_stops_it_as_well(carrel: Carrel) -> None:
    assert stop(carrel.start(), signal.SIGINT)[0] == 0


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
    assert stop(carrel.start())[0] == 0


def test_stopping_under_load_loses_nothing_acknowledged_and_breaks_no_answer(carrel: Carrel, server: SilentServer) -> None:
    carrel.enrol(server.url)
    process = carrel.start()
    load = Load(carrel, carrel.sign_in())
    load.start(acknowledged=50)
    exit_code, log = stop(process)
    load.join()
    assert (exit_code, "Traceback" in log) == (0, False), log
    stored = carrel.stored_attempts()
    assert load.acknowledged - stored == set()
    print(f"{len(load.acknowledged)} acknowledged, {len(stored)} stored, broken off: {load.broken}")
    # A kept-alive connection may be closed between two requests; what was stored without an answer was broken off in its middle.
    assert stored - load.acknowledged == set()


def test_a_request_that_waits_for_a_hanging_server_is_answered_at_the_stop(carrel: Carrel, server: SilentServer) -> None:
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
        assert ask(connection, "POST", "/v1/attempts", attempt(IDS.new()), token)[0] == 201, "writing goes on meanwhile"
    exit_code, log = stop(process)
    waiting.join(WAIT_S)
    assert (exit_code, "Traceback" in log) == (0, False), log
    assert len(answers) == 1


@pytest.mark.parametrize("kills", [3])
def test_killing_it_loses_nothing_acknowledged(carrel: Carrel, server: SilentServer, kills: int) -> None:
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
    stop(process)
    assert acknowledged - carrel.stored_attempts() == set()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_daemon_at_work_has_not_loaded_the_servers_driver_of_postgresql(carrel: Carrel, server: SilentServer) -> None:
    carrel.enrol(server.url)
    process = carrel.start()
    load = Load(carrel, carrel.sign_in())
    load.start(acknowledged=20)
    load.stop()
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
    exit_code, log = stop(process)
    assert exit_code == 0
    assert "threads were left behind" in log
    carrel.stored_attempts()


def test_a_failed_database_ends_the_process_with_an_error_for_the_service_manager(carrel: Carrel) -> None:
    fail = "import sys, daemon.service as s; s.HEALTH_CHECK_S = 0.1; s.Service.failure = lambda self: 'DatabaseError'"
    process = carrel.start(f"{fail}; sys.argv = ['carrel', 'run']; from daemon.cli import main; main()")
    _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == EXIT_FAILED
    assert "stopping, for a new process to open the database" in log
