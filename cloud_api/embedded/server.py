"""Starting, sharing and stopping one PostgreSQL server that lives as long as the process that started it."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from cloud_api.embedded.binaries import find_binaries, reachable_binaries
from cloud_api.embedded.cluster import OWNER, STOP_TIMEOUT_S, SUPERUSER, ClusterFolder, last_line
from cloud_api.embedded.databases import DatabaseServer
from domain.errors import AlreadyRunning, PostgresUnavailable

HOST = "127.0.0.1"
START_TIMEOUT_S = 60
# Between choosing a free port and PostgreSQL's taking it, another program may take it.
PORT_TRIES_MAX = 5
# How long to wait for a server that another process is starting or stopping, and how often to look.
SHARE_TIMEOUT_S = 90.0
SHARE_POLL_S = 0.05
SUPERVISOR_END_TIMEOUT_S = 2 * STOP_TIMEOUT_S + 5
SUPERVISOR = (Path(__file__).parent / "supervisor.sh").read_text()

_PORT_TAKEN = "could not bind"
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres(DatabaseServer):
    """A PostgreSQL server over a data folder, on a loopback port, open to two database users with one password only.

    `url` is the superuser's. `url_for` gives addresses for the other, who owns the databases and is no superuser: their row-level security holds.

    Whoever starts it first owns it: the server stops when the owner calls `stop`, leaves the `with` block, or ends in any way,
    kill -9 included. Others who start it meanwhile share it, and their `stop` leaves it running.
    """

    def __init__(self, folder: ClusterFolder, port: int, binaries: Path) -> None:
        super().__init__(f"postgresql://{SUPERUSER}:{folder.password()}@{HOST}:{port}/postgres")
        self.owner = OWNER
        self.binaries = binaries
        self.data_dir = folder.path
        self._folder = folder
        self._supervisor: subprocess.Popen[str] | None = None  # of the owner alone
        self._process_id = os.getpid()

    @classmethod
    def start(cls, data_dir: Path, *, durable: bool = True, port: int | None = None, max_connections: int = 100) -> EmbeddedPostgres:
        """Start the server of `data_dir`, which is made when it does not exist, or share the one that runs.

        `durable=False` gives up safety against power cuts for speed: for tests alone. `port` None takes any free port. A server that
        is shared keeps the settings of its owner. Raises PostgresUnavailable with a sentence that says what to do.
        """
        folder = ClusterFolder.prepare(data_dir)
        deadline = time.monotonic() + SHARE_TIMEOUT_S
        while time.monotonic() < deadline:
            lock = folder.try_lock()
            if lock is not None:
                with lock:  # the supervisor holds a copy, so the folder stays locked
                    return cls._start_owned(folder, lock, _settings(durable, max_connections), port)
            running = folder.running()
            if running is not None and running.ready:
                shared = cls(folder, running.port, find_binaries(folder.major()))
                if shared.answers():
                    return shared
            time.sleep(SHARE_POLL_S)
        raise PostgresUnavailable(
            f"Another process holds {folder.path}, but no PostgreSQL became ready there within {SHARE_TIMEOUT_S:.0f} seconds."
        )

    @classmethod
    def _start_owned(cls, folder: ClusterFolder, lock: IO[bytes], settings: dict[str, str], port: int | None) -> EmbeddedPostgres:
        binaries = reachable_binaries(find_binaries(folder.major()), folder.account)
        if folder.major() is None:
            folder.create_cluster(binaries, durable="fsync" not in settings)
        folder.clear_leftovers(binaries)
        for _ in range(PORT_TRIES_MAX):
            chosen = port or _free_port()
            server = cls(folder, chosen, binaries)
            failure = server._launch(lock, settings | {"port": str(chosen)})
            if failure is None:
                server.make_owner(OWNER, folder.password())
                return server
            if _PORT_TAKEN not in failure:
                raise PostgresUnavailable(f"PostgreSQL did not start: {last_line(failure)} (log: {folder.log}).")
            if port:
                raise PostgresUnavailable(f"Port {port} on {HOST} is taken by another program: free it or choose another port.")
        raise PostgresUnavailable(f"PostgreSQL found no free port on {HOST} in {PORT_TRIES_MAX} tries.")

    def stop(self) -> None:
        """Stop the server if this object owns it. May be called again; does nothing in a forked child."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None or os.getpid() != self._process_id:
            return
        atexit.unregister(self.stop)
        _end(supervisor)
        lock = self._folder.try_lock()
        if lock is not None:  # nobody took the folder over: see to it that a killed supervisor left no server behind
            with lock:
                self._folder.clear_leftovers(self.binaries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _launch(self, lock: IO[bytes], settings: dict[str, str]) -> str | None:
        """Start the server under a supervisor that stops it when this process ends. Returns what went wrong, or None."""
        self._folder.fresh_log()
        options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        stop_mode = "immediate" if "fsync" in settings else "fast"
        pg_ctl, cluster, log = str(self.binaries / "pg_ctl"), str(self._folder.cluster), str(self._folder.log)
        supervisor = subprocess.Popen(
            [
                "/bin/sh",
                "-c",
                SUPERVISOR,
                "carrel-postgres",
                pg_ctl,
                cluster,
                log,
                options,
                str(START_TIMEOUT_S),
                stop_mode,
                str(STOP_TIMEOUT_S),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=lock,
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal reaches the owner alone, which then stops the server in order
            **self._folder.account.process_options(),
        )
        output = _until_ready(supervisor)
        if output is not None:
            _end(supervisor)
            return f"{output}\n{self._folder.log.read_text(errors='replace')}"
        self._supervisor = supervisor
        atexit.register(self.stop)
        return None


def remove_data(data_dir: Path) -> None:
    """Delete a data folder; nothing happens if there is none. Raises AlreadyRunning while a server runs over it."""
    if not data_dir.exists():
        return
    folder = ClusterFolder.prepare(data_dir)
    lock = folder.try_lock()
    if lock is None:
        raise AlreadyRunning(f"A server runs over {folder.path}: stop it first.")
    with lock:
        if folder.running() is not None:
            folder.clear_leftovers(find_binaries(folder.major()))
        shutil.rmtree(folder.path)


def _settings(durable: bool, max_connections: int) -> dict[str, str]:
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",  # a socket's path may have 107 bytes, fewer than many a project folder
        "max_connections": str(max_connections),
        "timezone": "UTC",
        "log_timezone": "UTC",
        # No value of a row in the log, whatever fails: neither the statement nor the key that was there already.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        # What was erased goes with the write-ahead log that it stands in (cloud_api/erasure/rewriting.py).
        "wal_recycle": "off",
    }
    return settings if durable else settings | _NOT_DURABLE


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _until_ready(supervisor: subprocess.Popen[str]) -> str | None:
    """Wait until the server is ready: None; or until the supervisor gives up, which it does in START_TIMEOUT_S: what it said."""
    said = []
    with cast("IO[str]", supervisor.stdout) as output:
        for line in output:
            if line == "ready\n":
                return None
            said.append(line)
    return "".join(said)


def _end(supervisor: subprocess.Popen[str]) -> None:
    """Close the supervisor's input, upon which it stops the server, and wait for it."""
    cast("IO[str]", supervisor.stdin).close()
    try:
        supervisor.wait(SUPERVISOR_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
