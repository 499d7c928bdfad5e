"""PostgreSQL that dies: a server at a fixed port, its standby, and pgbouncer before it.

It is processes that die here and not the machine: what was written to the kernel survives, and fsync, which the disk of a busy machine makes slow,
is off. A commit waits for its log to be written, and for the standby.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2

from cloud_api.embedded import EmbeddedPostgres, find_binaries
from cloud_api.embedded.cluster import OWNER, ClusterFolder
from domain.errors import PostgresUnavailable
from migrations.runner import upgrade_cloud
from tests.chaos.processes import HOST, POLL_S, free_port, wait_until
from tests.support.devstack import descendants
from tests.support.examples import example

SCHOOL = "school"
BACKUP_MAX_S = 60.0
PROMOTION_MAX_S = 30
# Enough for the requests of both workers, fewer than they would open by themselves.
BOUNCED_CONNECTIONS = 6
# The database of docs/examples/pgbouncer.ini.
EXAMPLE = "carrel"
PGBOUNCER_END_MAX_S = 10.0


class Postgres:
    """A PostgreSQL server that may be killed and started again. `standby_of` makes it begin as a copy that follows another."""

    def __init__(self, data_dir: Path, standby_of: Postgres | None = None) -> None:
        self._data_dir, self.port = data_dir, free_port()
        if standby_of:
            self._copy(standby_of)
        self._server = self._started()

    @property
    def server(self) -> EmbeddedPostgres:
        return self._server

    @property
    def url(self) -> str:
        """The address of the school's database."""
        return self._server.url_for(SCHOOL)

    def create_school(self) -> None:
        """The database, migrated."""
        upgrade_cloud(self._server.create_database(SCHOOL))
        self.ask(f"ALTER DATABASE {SCHOOL} SET synchronous_commit = on")  # which wins over what the server was started with

    def processes(self) -> list[int]:
        """The postmaster, first, and what it has started."""
        try:
            postmaster = int((self._data_dir / "cluster" / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return []
        return [postmaster, *sorted(descendants(postmaster))]

    def kill(self) -> None:
        """SIGKILL to every process of the server, as when its machine dies."""
        for pid in self.processes():
            _kill(pid)
        self._server.stop()

    def kill_backend(self, number: int) -> None:
        """SIGKILL to one process below the postmaster, which then ends all others and recovers."""
        if below := self.processes()[1:]:
            _kill(below[number % len(below)])

    def start(self) -> None:
        """After `kill`, at the same port."""
        self._server = self._started()

    def stop(self) -> None:
        self._server.stop()

    def ask(self, query: str) -> Any:
        """The first value of a query, outside any transaction."""
        with closing(psycopg2.connect(self._server.superuser_url_for(SCHOOL), connect_timeout=5)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(query)
                row = cursor.fetchone() if cursor.description else None
                return row[0] if row else None

    def demand_standby(self) -> None:
        """From now on a commit is answered when a standby has it on its disk; returns when one follows that closely."""
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask("SELECT pg_reload_conf()")
        wait_until(lambda: self.ask("SELECT sync_state FROM pg_stat_replication") == "sync", "the standby follows")

    def promote(self) -> None:
        """Makes a standby the server that may be written to."""
        if not self.ask(f"SELECT pg_promote(true, {PROMOTION_MAX_S})"):
            raise AssertionError("the standby was not promoted")

    def _started(self) -> EmbeddedPostgres:
        return EmbeddedPostgres.start(self._data_dir, durable=False, port=self.port)

    def _copy(self, primary: Postgres) -> None:
        folder = ClusterFolder.prepare(self._data_dir)
        shutil.copy(primary._data_dir / "password", folder.path / "password")
        folder.account.own(folder.path / "password", 0o600)
        os.chown(folder.path, folder.account.uid, folder.account.gid)
        backup: list[str | Path] = [
            primary.server.binaries / "pg_basebackup",
            "-d",
            primary.server.url,
            "-D",
            folder.cluster,
            "-R",
            "-N",
            "-c",
            "fast",
        ]
        done = folder.account.run(backup)
        if done.returncode:
            raise AssertionError(f"the primary could not be copied: {done.stderr}")


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def running_postgres(folder: Path) -> Iterator[Postgres]:
    """A server with a migrated school's database, as long as the block lasts."""
    postgres = Postgres(folder / "postgres")
    try:
        postgres.create_school()
        yield postgres
    finally:
        postgres.stop()


def without_replication() -> str | None:
    """Why there can be no standby on this machine; None when there can."""
    try:
        return None if (find_binaries() / "pg_basebackup").exists() else "needs pg_basebackup"
    except PostgresUnavailable as error:
        return error.message


@contextmanager
def replicated_postgres(folder: Path, *, synchronous: bool = True) -> Iterator[tuple[Postgres, Postgres]]:
    """The same with a standby, without which nothing is committed if it is synchronous: (primary, standby)."""
    with running_postgres(folder) as primary:
        standby = Postgres(folder / "standby", standby_of=primary)
        try:
            if synchronous:
                primary.demand_standby()
            yield primary, standby
        finally:
            standby.stop()


def address_of_both(primary: Postgres, standby: Postgres) -> str:
    """One address that leads to whichever of the two may be written to."""
    user, _, rest = primary.url.partition("@")
    return f"{user}@{HOST}:{primary.port},{HOST}:{standby.port}/{rest.partition('/')[2]}?target_session_attrs=read-write"


# --- pgbouncer


def without_pgbouncer() -> str | None:
    """Why there can be no pgbouncer on this machine; None when there can."""
    return None if shutil.which("pgbouncer") else "needs pgbouncer"


@contextmanager
def pgbouncer(postgres: Postgres, folder: Path) -> Iterator[str]:
    """The school's database through pgbouncer, as docs/examples configures it but for the number of connections."""
    place = ClusterFolder.prepare(folder / "pgbouncer")
    os.chown(place.path, place.account.uid, place.account.gid)
    port = free_port()
    password = (postgres.server.data_dir / "password").read_text()
    _write(place, "userlist.txt", f'"{OWNER}" "{password}"\n')
    config = {
        f"\n{EXAMPLE} = host=127.0.0.1 port=5432 dbname={EXAMPLE}\n": f"\n{SCHOOL} = host={HOST} port={postgres.port} dbname={SCHOOL}\n",
        "listen_port = 6432": f"listen_port = {port}",
        "/var/run/postgresql": str(place.path),
        "/etc/pgbouncer/userlist.txt": str(place.path / "userlist.txt"),
        "default_pool_size = 30": f"default_pool_size = {BOUNCED_CONNECTIONS}",
    }
    _write(place, "pgbouncer.ini", example("examples/pgbouncer.ini", config))
    with (place.path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["pgbouncer", place.path / "pgbouncer.ini"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **place.account.process_options()
        )
    url = f"postgresql://{OWNER}:{password}@{HOST}:{port}/{SCHOOL}"
    try:
        wait_until(lambda: _answers(url, process), f"pgbouncer answers (log: {place.path / 'log'})")
        yield url
    finally:
        process.terminate()
        process.wait(PGBOUNCER_END_MAX_S)


def _write(place: ClusterFolder, name: str, text: str) -> None:
    (place.path / name).write_text(text)
    place.account.own(place.path / name, 0o600)


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"pgbouncer ended with {process.returncode}")
    try:
        psycopg2.connect(url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        time.sleep(POLL_S)
        return False
    return True
