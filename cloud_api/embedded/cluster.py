"""One data folder: the database cluster, its password, its log and its lock.

cluster/    PostgreSQL's own data folder
password    of the database users `carrel` and `carrel_school`, readable for the account that runs the server alone
server.log  of the server that runs now or ran last; the one before it is server.log.1
lock        locked while a server of this folder has an owner
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from cloud_api.embedded.account import Account, account_for, make_folder
from domain.errors import PostgresUnavailable

# Who makes databases; nobody else is a superuser.
SUPERUSER = "carrel"
# Who owns and uses them: row-level security holds for this one, and never for a superuser.
OWNER = "carrel_school"
# The C locale with Unicode: needs no locale data and sorts the same everywhere. macOS has no such name.
LOCALE = "C.UTF-8" if sys.platform == "linux" else "C"
PASSWORD_BYTES = 24
STOP_TIMEOUT_S = 20
PS_TIMEOUT_S = 10.0


class Running(NamedTuple):
    """What postmaster.pid says of a live server."""

    pid: int
    port: int
    ready: bool


@dataclass(frozen=True)
class ClusterFolder:
    """A data folder and the account that runs its server."""

    path: Path
    account: Account

    @classmethod
    def prepare(cls, path: Path) -> ClusterFolder:
        """Make the folder, private to the account. Raises PostgresUnavailable when the account cannot get there."""
        path = path.absolute()
        folder = cls(path, account_for(path / "cluster"))
        folder._demand_way(path.parent)
        try:
            mode = 0o711 if folder.account.switch else 0o700
            make_folder(path, mode)
            path.chmod(mode)
        except OSError as error:
            raise PostgresUnavailable(f"The data folder {path} cannot be used: {error.strerror}.") from error
        folder._demand_way(path)
        return folder

    @property
    def cluster(self) -> Path:
        return self.path / "cluster"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def major(self) -> int | None:
        """The major version of PostgreSQL that made the cluster; None before there is one."""
        try:
            return int((self.cluster / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def password(self) -> str:
        try:
            return (self.path / "password").read_text()
        except FileNotFoundError as error:
            raise PostgresUnavailable(
                f"{self.path / 'password'} is missing, so nobody can use the data beside it: put it back or remove {self.path}."
            ) from error

    def try_lock(self) -> IO[bytes] | None:
        """The lock file, locked; None while another process owns the server. The lock ends when every copy of the file is closed."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        lock = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        return lock

    def create_cluster(self, binaries: Path, durable: bool) -> None:
        """Make the cluster with a new password. It appears under its name when complete, so a start cut short leaves nothing half made."""
        staging = self.path / "cluster.new"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self.account.own(staging, 0o700)
        self._write_password()
        command: list[str | Path] = [
            binaries / "initdb",
            "-D",
            staging,
            "-U",
            SUPERUSER,
            "-A",
            "scram-sha-256",
            f"--pwfile={self.path / 'password'}",
        ]
        command += ["-E", "UTF8", f"--locale={LOCALE}", "--no-instructions", *([] if durable else ["--no-sync"])]
        result = self.account.run(command)
        if result.returncode:
            raise PostgresUnavailable(f"PostgreSQL could not create its files in {self.path}: {last_line(result.stderr)}")
        staging.rename(self.cluster)

    def fresh_log(self) -> None:
        """Begin a new log and keep the one before it."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch()
        self.account.own(self.log, 0o600)

    def running(self) -> Running | None:
        """The server over this cluster, if one is alive.

        postmaster.pid alone proves nothing: after a crash it stays, and its number may belong to another program by now.
        """
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
            pid, port = int(lines[0]), int(lines[3])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        if f" -D {self.cluster} " not in f"{_command_line(pid)} ":
            return None
        return Running(pid, port, ready=len(lines) > 7 and lines[7].strip() == "ready")

    def clear_leftovers(self, binaries: Path) -> None:
        """Under the lock: stop a server that nobody owns any more, and remove the pid file of one that is gone."""
        if self.running():
            for mode in ("fast", "immediate"):
                self.account.run([binaries / "pg_ctl", "stop", "-w", "-t", str(STOP_TIMEOUT_S), "-D", self.cluster, "-m", mode])
                if not self.running():
                    break
            else:
                raise PostgresUnavailable(f"An earlier PostgreSQL still runs over {self.path} and does not stop.")
        pid_file = self.cluster / "postmaster.pid"
        if pid_file.exists() and _command_line(_first_number(pid_file)):
            # Another program has that number now. PostgreSQL would take it for a server and refuse; without one it decides by itself.
            pid_file.unlink()

    def _write_password(self) -> None:
        path = self.path / "password"
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES))
        self.account.own(path, 0o600)

    def _demand_way(self, folder: Path) -> None:
        closed = self.account.closed_folder(folder)
        if closed is not None:
            raise PostgresUnavailable(
                f"{closed} is closed to the account {self.account.name}, under which PostgreSQL would run: "
                f"choose a data folder outside it instead of {self.path}, or start Carrel as a user who may enter it."
            )


def last_line(text: str) -> str:
    """The line of a program's output that says what was wrong: the last that is fatal, else the last."""
    lines = text.strip().splitlines() or ["it said nothing"]
    return ([line for line in lines if "FATAL:" in line] or lines)[-1]


def _first_number(path: Path) -> int:
    try:
        return int(path.read_text().split()[0])
    except (ValueError, IndexError):
        return 0


def _command_line(pid: int) -> str:
    """The command that process `pid` runs; empty when there is no such process."""
    if Path("/proc/self").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except (FileNotFoundError, ProcessLookupError):
            return ""
    result = subprocess.run(["ps", "-p", str(pid), "-o", "command="], check=False, capture_output=True, text=True, timeout=PS_TIMEOUT_S)
    return result.stdout.strip()
