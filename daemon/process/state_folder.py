"""The state folder: who owns it, and how the CLI finds the daemon that does.

    daemon.lock    held (flock) by the one process that works on this folder; names its pid
    daemon.json    where the running daemon listens: {"pid", "host", "port", "started_at_ms"}
    control.token  the secret with which the CLI may do what a student may not; new at every start
    app.token      the secret with which programs of this account are an app; new at every start

All are readable by the daemon's account alone, which is what makes the token a proof.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from domain.errors import AlreadyRunning, OperatorError
from migrations.lock import take_flock
from migrations.private_files import create_private

LOCK_NAME = "daemon.lock"
ADDRESS_NAME = "daemon.json"
TOKEN_NAME = "control.token"
APP_TOKEN_NAME = "app.token"
FILE_MODE = 0o600
TOKEN_BYTES = 32
# More than any of these files ever holds.
READ_BYTES_MAX = 256 * 1024
# Whoever only asks whether somebody works here (`_is_held`) has the lock for some microseconds.
LOOKED_AT_MAX_S = 0.1


@dataclass(frozen=True)
class RunningDaemon:
    """Where a daemon listens, and since when (UTC ms)."""

    pid: int
    host: str
    port: int
    started_at_ms: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it when the process ends, however that comes about.

    Raises AlreadyRunning with the owner's pid, and OperatorError when the lock file cannot be opened.
    """
    path = folder / LOCK_NAME
    try:
        try:
            descriptor = create_private(path, path)
        except FileExistsError:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise OperatorError(f"Cannot open the lock file {path}: {error.strerror}.") from error
    try:
        if not take_flock(descriptor, LOOKED_AT_MAX_S):
            raise _owned(descriptor, folder)
        with suppress(OSError):  # on a full disk nobody is told the pid, and the lock holds
            os.ftruncate(descriptor, os.pwrite(descriptor, str(os.getpid()).encode(), 0))
        yield
    finally:
        os.close(descriptor)  # which lets go of the lock; the file stays, since another process may have it open


def _owned(descriptor: int, folder: Path) -> AlreadyRunning:
    pid = os.pread(descriptor, READ_BYTES_MAX, 0).decode("ascii", "replace").strip()
    owner = f" (process {pid})" if pid.isdigit() else ""
    return AlreadyRunning(f"Another carrel{owner} is working in {folder}: stop it first, or give this one its own state_dir.")


def new_token(folder: Path, name: str = TOKEN_NAME) -> str:
    """Makes and stores a token of this start: the control token, or the app token."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    write_private(folder / name, token)
    return token


def read_app_token(folder: Path) -> str:
    """The token with which a program of this account is an app. Raises OperatorError when no daemon runs, or the account may not read it."""
    try:
        return _read(folder / APP_TOKEN_NAME)
    except OSError as error:
        raise OperatorError(f"{folder / APP_TOKEN_NAME} cannot be read: {error.strerror}.") from error


def announce(folder: Path, running: RunningDaemon) -> None:
    """Says in daemon.json where this process listens."""
    write_private(folder / ADDRESS_NAME, json.dumps(asdict(running)))


def withdraw(folder: Path) -> None:
    """Takes back what `announce` and `new_token` wrote. Never raises: the process is on its way out."""
    for name in (ADDRESS_NAME, TOKEN_NAME, APP_TOKEN_NAME):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def find_running(folder: Path) -> tuple[RunningDaemon, str] | None:
    """The daemon that owns the folder and its control token; None when none is running, also after one was killed.

    Raises OperatorError when the folder's files may not be read by this account.
    """
    if not _is_held(folder):
        return None
    try:
        running = RunningDaemon(**json.loads(_read(folder / ADDRESS_NAME)))
        return running, _read(folder / TOKEN_NAME)
    except FileNotFoundError:
        return None  # it is starting, or another command works in the folder
    except PermissionError as error:
        raise not_ours(folder) from error
    except (OSError, ValueError, TypeError) as error:
        raise OperatorError(f"{folder / ADDRESS_NAME} cannot be read: restart the daemon.") from error


def not_ours(folder: Path) -> OperatorError:
    """For an account that may not read a state folder: whose it is. Root may, and would leave files there that its owner could not open."""
    try:
        owner = folder.owner()
    except (OSError, KeyError):
        return OperatorError(f"This account may not read {folder}: run the command as the daemon's account.")
    return OperatorError(f"This account may not read {folder}: run the command as the account that owns it (`sudo -u {owner} -- …`).")


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        raise not_ours(folder) from error
    try:
        # A shared lock: two commands that ask at the same moment do not take each other for the daemon.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(READ_BYTES_MAX)


def write_private(path: Path, text: str) -> None:
    """Replaces a small file whole, readable by this account alone. Raises OperatorError."""
    draft = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, FILE_MODE)
            file.write(text)
        os.replace(draft, path)
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error
