"""The operating-system account under which PostgreSQL runs. It refuses to run as root, so root hands over to another account."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain.errors import PostgresUnavailable

# In order of preference: Debian's account for exactly this purpose, else the one that owns nothing.
UNPRIVILEGED_NAMES = ("postgres", "nobody")
# Where root keeps what the unprivileged account must reach and the wanted place does not let through.
ROOT_STATE = Path("/var/lib/carrel")
PROGRAM_TIMEOUT_S = 60.0
# Prints the first of its arguments that the account running it may not enter. `test -x` asks the kernel, so access lists count.
_FIRST_CLOSED = 'for folder; do [ ! -d "$folder" ] || [ -x "$folder" ] || { printf "%s" "$folder"; exit 1; }; done'


@dataclass(frozen=True)
class Account:
    """Who runs PostgreSQL; `switch` says that this process is someone else (root) and has to change over."""

    uid: int
    gid: int
    name: str
    switch: bool

    def process_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess: this account, no caller's PG* settings, and a working folder that every account may enter."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
        options: dict[str, Any] = {"cwd": "/", "env": environment | {"LC_ALL": "C"}}
        if self.switch:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a short program to its end. Raises PostgresUnavailable when it cannot be run at all, or not within a minute."""
        try:
            return subprocess.run(
                [str(part) for part in command],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROGRAM_TIMEOUT_S,
                **self.process_options(),
            )
        except subprocess.TimeoutExpired as error:
            raise PostgresUnavailable(f"{command[0]} did not end within {PROGRAM_TIMEOUT_S:.0f} seconds.") from error
        except OSError as error:
            raise PostgresUnavailable(f"{command[0]} cannot be run under the account {self.name}: {error.strerror}.") from error

    def own(self, path: Path, mode: int) -> None:
        """Hand a file or folder of ours to the account."""
        if self.switch:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)

    def closed_folder(self, folder: Path) -> Path | None:
        """The first folder from `/` down to `folder` that the account may not enter; None when the way is open.

        Folders that do not exist yet are left out.
        """
        result = self.run(["/bin/sh", "-c", _FIRST_CLOSED, "sh", *reversed(folder.parents), folder])
        return Path(result.stdout) if result.returncode else None


def make_folder(folder: Path, mode: int) -> None:
    """Makes a folder and those above it that are missing, each with this mode, whatever the umask is. Raises OSError."""
    for path in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        path.mkdir(exist_ok=True)
        path.chmod(mode)


def account_for(cluster: Path) -> Account:
    """The account that runs the server over `cluster` (PostgreSQL's data folder, which may not exist yet).

    An ordinary user is that account. Root takes the owner of an existing cluster, else the first of UNPRIVILEGED_NAMES.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), _name_of(os.geteuid()), switch=False)
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, _name_of(owner.st_uid), switch=True)
    for name in UNPRIVILEGED_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name, switch=True)
    raise PostgresUnavailable(
        "PostgreSQL cannot run as root and there is no account `nobody` to run it under: start Carrel as an ordinary user."
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container may run under a number that has no name
        return str(uid)


def reachable_folder(wanted: Path) -> Path:
    """`wanted`, unless the account that will run PostgreSQL cannot get there (root's home is closed to it).

    Then a folder under /var/lib/carrel whose name is derived from `wanted`: the same each time, and another one for another clone.
    """
    wanted = wanted.absolute()
    if account_for(wanted / "cluster").closed_folder(wanted.parent) is None:
        return wanted
    return ROOT_STATE / f"{wanted.name}-{hashlib.blake2b(os.fsencode(wanted), digest_size=6).hexdigest()}"
