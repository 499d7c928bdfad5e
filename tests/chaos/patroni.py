"""Two PostgreSQL servers under Patroni, as docs/examples/patroni.yml configures them, and the etcd by which they agree. All on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import urllib3

from cloud_api.embedded.cluster import ClusterFolder
from migrations.runner import upgrade_cloud
from tests.chaos.postgres import SCHOOL
from tests.chaos.processes import HOST, free_port, wait_until
from tests.support.devstack import descendants
from tests.support.examples import example

PROGRAMS = ("etcd", "patroni")
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
NAMES = ("db1", "db2")
PASSWORD = "of-the-test"
ANSWER_MAX_S, BOOTSTRAP_MAX_S, FAILOVER_MAX_S, END_MAX_S = 3.0, 90.0, 90.0, 30.0


def without_patroni() -> str | None:
    """What is missing on this machine, or None."""
    missing = [name for name in PROGRAMS if not shutil.which(name)] + ([] if SERVERS else ["PostgreSQL of the operating system"])
    return f"needs {', '.join(missing)}" if missing else None


class Node:
    """One machine: Patroni, and the PostgreSQL that it starts."""

    def __init__(self, name: str, etcd_port: int, folder: Path) -> None:
        self.name, self.port, self._api_port = name, free_port(), free_port()
        self._place = ClusterFolder.prepare(folder / name)
        os.chown(self._place.path, self._place.account.uid, self._place.account.gid)
        config = {
            "name: db1": f"name: {name}",
            "10.0.0.1:8008": f"{HOST}:{self._api_port}",
            '"10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"': f'"{HOST}:{etcd_port}"',
            "10.0.0.1:5432": f"{HOST}:{self.port}",
            "/var/lib/postgresql/15/carrel": f"{self._place.path}/data",
            "/usr/lib/postgresql/15/bin": str(SERVERS[-1].parent),
            "/var/lib/postgresql/.pgpass_patroni": f"{self._place.path}/pgpass",
            "/var/run/postgresql": str(self._place.path),
            "SUPERUSER-PASSWORD": PASSWORD,
            "REPLICATION-PASSWORD": PASSWORD,
            "REWIND-PASSWORD": PASSWORD,
            "10.0.0.0/24": f"{HOST}/32",
        }
        self._config = self._place.path / "config.yml"
        self._config.write_text(example("examples/patroni.yml", config))
        self._place.account.own(self._config, 0o600)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._place.path / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["patroni", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._place.account.process_options()
            )

    def kill(self) -> None:
        """SIGKILL to Patroni and every process of its PostgreSQL, as when the machine dies."""
        if self._process is None:
            return
        for pid in (self._process.pid, *self._postgres()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(END_MAX_S)
        self._process = None

    def _postgres(self) -> list[int]:
        """PostgreSQL is no child of Patroni's."""
        try:
            postmaster = int((self._place.path / "data" / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return []
        return [postmaster, *descendants(postmaster)]

    def is_role(self, role: str) -> bool:
        """Whether Patroni's API says that this is the `leader`, or a `sync`hronous standby."""
        with urllib3.PoolManager(retries=False, timeout=ANSWER_MAX_S) as http:
            try:
                return http.request("GET", f"http://{HOST}:{self._api_port}/{role}").status == 200
            except urllib3.exceptions.HTTPError:
                return False


class Cluster:
    """Both machines."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    @property
    def url(self) -> str:
        """The school's database, wherever the leader is."""
        hosts = ",".join(f"{HOST}:{node.port}" for node in self._nodes)
        return f"postgresql://carrel:{PASSWORD}@{hosts}/{SCHOOL}?target_session_attrs=read-write"

    def leader(self) -> Node:
        """The node that leads now. Fails when there is none for FAILOVER_MAX_S."""
        found: list[Node] = []

        def is_there() -> bool:
            found[:] = [node for node in self._nodes if node.is_role("leader")]
            return bool(found)

        wait_until(is_there, "there is a leader", FAILOVER_MAX_S)
        return found[0]

    def await_standby(self) -> None:
        """Until the other one has all that is committed."""
        wait_until(lambda: any(node.is_role("sync") for node in self._nodes), "a synchronous standby follows", BOOTSTRAP_MAX_S)

    def create_school(self) -> None:
        """The account and the database, as docs/install.md makes them; migrated."""
        address: dict[str, Any] = {"host": HOST, "port": self.leader().port, "user": "postgres", "password": PASSWORD}
        with closing(psycopg2.connect(dbname="postgres", **address)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE ROLE carrel LOGIN PASSWORD '{PASSWORD}'")
                cursor.execute(f"CREATE DATABASE {SCHOOL} OWNER carrel")
        # libpq asks the next host after one that is away or read-only, but not after one that has yet to hear of the database.
        wait_until(self._is_known_everywhere, "the standby has the database", ANSWER_MAX_S * len(self._nodes))
        upgrade_cloud(self.url)

    def _is_known_everywhere(self) -> bool:
        try:
            for node in self._nodes:
                psycopg2.connect(host=HOST, port=node.port, user="carrel", password=PASSWORD, dbname=SCHOOL).close()
        except psycopg2.OperationalError:
            return False
        return True


@contextmanager
def patroni_cluster(folder: Path) -> Iterator[Cluster]:
    """A leader and a synchronous standby with a migrated school's database, as long as the block lasts."""
    with ExitStack() as parts:
        etcd_port = parts.enter_context(_etcd(folder))
        nodes = [Node(name, etcd_port, folder) for name in NAMES]
        for node in nodes:
            parts.callback(node.kill)
            node.start()
        cluster = Cluster(nodes)
        cluster.await_standby()
        cluster.create_school()
        yield cluster


@contextmanager
def _etcd(folder: Path) -> Iterator[int]:
    """The port of an etcd of one machine."""
    port, peer_port = free_port(), free_port()
    urls = {"listen-client": port, "advertise-client": port, "listen-peer": peer_port, "initial-advertise-peer": peer_port}
    command = ["etcd", "--name=one", f"--data-dir={folder}/etcd", f"--initial-cluster=one=http://{HOST}:{peer_port}"]
    command += [f"--{name}-urls=http://{HOST}:{at}" for name, at in urls.items()]
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(END_MAX_S)
