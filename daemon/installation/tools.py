"""Other programs that an installation runs, each within a time, and their refusals as sentences."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from domain.errors import OperatorError

# A start may migrate a database first (TimeoutStartSec of the units); a pip may compile.
COMMAND_MAX_S = 3600
SAID_CHARS_MAX = 2_000


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
