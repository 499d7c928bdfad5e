"""How an installation works on a machine: alone, and by other programs, each within a time, and their refusals as sentences."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from daemon.installation.layout import Layout
from domain.errors import AlreadyRunning, OperatorError

# A start may migrate a database first (TimeoutStartSec of the units); a pip may compile.
COMMAND_MAX_S = 3600
SAID_CHARS_MAX = 2_000


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """For the block nobody else changes this installation, and what it makes can be read by the services' accounts, whatever the administrator's
    umask. Raises AlreadyRunning while somebody does, OperatorError for files that cannot be written.
    """
    umask = os.umask(0o022)
    try:
        layout.prefix.parent.mkdir(parents=True, exist_ok=True)
        # The folder around it: a lock of its own would be left behind, or be removed with the rest while somebody waits for it.
        folder = os.open(layout.prefix.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(folder)
    except BlockingIOError as error:
        raise AlreadyRunning("Another `carrel service` is at work on this machine: let it finish.") from error
    except OSError as error:
        raise OperatorError(f"The machine cannot be changed: {error}.") from error
    finally:
        os.umask(umask)


def run(command: Sequence[str | Path], environ: Mapping[str, str] | None = None, *, otherwise: str) -> str:
    """What the program prints. Raises OperatorError, beginning with `otherwise`, when it fails, is not there or does not end."""
    done = attempt(command, environ, otherwise=otherwise)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-SAID_CHARS_MAX:]
        raise OperatorError(f"{otherwise}: {Path(command[0]).name} ended with {done.returncode}. {said}")
    return done.stdout


def attempt(command: Sequence[str | Path], environ: Mapping[str, str] | None = None, *, otherwise: str) -> subprocess.CompletedProcess[str]:
    """How the program ended, whatever that is. Raises OperatorError when it is not there, or does not end."""
    try:
        return subprocess.run(
            [str(word) for word in command],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_MAX_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"{otherwise}: {command[0]} did not end within {COMMAND_MAX_S} s.") from error
    except OSError as error:
        raise OperatorError(f"{otherwise}: {command[0]} cannot be run: {error.strerror}.") from error
