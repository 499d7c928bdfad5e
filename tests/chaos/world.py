"""A school's server, a device and an app as real processes, wired through a faulty proxy; and the judgement over what is left of them.

app ── daemon ── proxy ── cloud API ── PostgreSQL

or, with a wire between two networks, the daemon and the app in one of them and everything else in the other:

app ── daemon ══ cloud API ── PostgreSQL
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from devstack.compare import cloud_rows, compare, device_rows
from domain.errors import Unavailable
from domain.ids import Id
from domain.registry import TABLES
from tests.chaos.app import LearningApp
from tests.chaos.namespaces import SCHOOL_ADDRESS, Wire
from tests.chaos.processes import HOST, Cloud, Daemon, Enter, wait_until
from tests.chaos.proxy import FaultyProxy, faulty_proxy
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import Fleet, running_fleet

# How long everything may take to come to rest once the faults have stopped. The gateway alone waits a minute for an answer that never comes.
SETTLE_MAX_S = 90.0
CONNECTIONS = 4
TITLE_BYTES = 100
DEVICE_FILE = "device.sqlite3"


@dataclass
class World:
    """What runs. `judge` uses the school's database at an address of its own, which faults do not concern."""

    seed: int
    fleet: Fleet
    student: Id
    cloud: Cloud
    proxy: FaultyProxy
    daemon: Daemon
    app: LearningApp
    randomness: random.Random
    wire: Wire | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def school(self) -> SchoolBuilder:
        return self.fleet.school

    def count(self, what: str, by: int = 1) -> None:
        """Adds to the figures that the round ends with."""
        self.figures[what] = self.figures.get(what, 0) + by

    def school_writes(self, topics: int) -> None:
        """So many new topics in one publication, for devices to pull. Their titles do not compress."""
        publication, ids = Publication(self.school.id), self.school.ids
        for position in range(topics):
            topic = {"id": ids.new(), "title": self.randomness.randbytes(TITLE_BYTES).hex(), "level": "lesson", "position": position}
            publication.put("topics", dict.fromkeys(TABLES["topics"].column_names) | topic)
        with self.school.database.transaction() as cursor:
            publication.write(cursor, self.school.clock.now_ms())

    def forgive(self, may_be_lost: Callable[[str], bool]) -> None:
        """Answers of which this is true, and which are not at school now, count as never acknowledged. Only while the daemon is down."""
        stored = dict(self._server_answers())
        self.count("forgiven", self.app.forget({id_ for id_ in self.app.acknowledged if id_ not in stored and may_be_lost(id_)}))

    def restart_daemon(self, *prefix: str, **environ: str) -> None:
        """Kills the daemon and starts it again, behind another program if need be; returns at once."""
        self.daemon.kill()
        self.daemon.start(prefix, environ)

    def settle(self) -> None:
        """Faults stop: everything runs again, the app ends, and the device becomes `synced`. NO_WEDGE: within SETTLE_MAX_S."""
        self.proxy.heal()
        if self.wire:
            self.wire.heal()
        self.cloud.await_ready()
        self.daemon.await_ready()
        self.app.stop()

        def synced() -> bool:
            if (status := self.daemon.status()) and status["state"] == "synced":
                return True
            self.daemon.await_ready()
            self.daemon.sync()
            return False

        try:
            wait_until(synced, "NO_WEDGE: the device is in sync", SETTLE_MAX_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.daemon.status()}\n{self.daemon.said()}\n{self.cloud.said()}") from None

    def judge(self) -> None:
        """After `settle`. Fails with everything that was acknowledged and is not at school, once, as it was sent."""
        self.daemon.kill()
        with closing(sqlite3.connect(self.daemon.database_path)) as conn:
            check = conn.execute("PRAGMA integrity_check").fetchall()
        problems = list(self.app.failures)
        if check != [("ok",)]:
            problems.append(f"the device's file is damaged: {check[:3]}")
        stored = dict(self._server_answers())
        if lost := {id_ for id_, answer in self.app.acknowledged.items() if stored.get(id_) != answer}:
            problems.append(
                f"NO_LOST_OP: {len(lost)} of {len(self.app.acknowledged)} acknowledged attempts are not at school, such as {min(lost)}"
            )
        if letters := self.fleet.server("SELECT code, count(*) FROM dead_letters GROUP BY code"):
            problems.append(f"the server refused good attempts: {letters}")
        for table in compare(device_rows(self.daemon.database_path), cloud_rows(self.school.database, self.school.id)):
            if table.differing:
                problems.append(f"CONVERGENCE: {len(table.differing)} rows of {table.table} differ between device and school")
        problems.extend(self._second_device())
        self.figures |= {"acknowledged": len(self.app.acknowledged), "stored": len(stored), "said_synced": self.app.said_synced}
        self.figures |= {f"answered_{status}": count for status, count in sorted(self.app.refused.items())}
        if problems:
            raise AssertionError("\n".join(problems))

    def _server_answers(self) -> list[tuple[Any, ...]]:
        rows = self.fleet.server("SELECT id, answer FROM question_attempts WHERE school_id = %s", self.school.id)
        ids = [row[0] for row in rows]
        if len(set(ids)) != len(ids):
            raise AssertionError("EXACTLY_ONCE: an attempt is at school twice")
        return rows

    def _second_device(self) -> Iterator[str]:
        """Another device of the student, which has seen nothing of all this."""
        device = self.fleet.device(Grant("student", self.student))
        # More than one round: PostgreSQL may still be recovering from the last fault.
        wait_until(lambda: device.sync().outcome == "done", "NO_WEDGE: another device is in sync", SETTLE_MAX_S)
        with closing(sqlite3.connect(self.daemon.database_path)) as conn:
            here = {row for (row,) in conn.execute("SELECT id FROM question_attempts")}
        if here != (there := {row[0] for row in device.rows("SELECT id FROM question_attempts")}):
            yield f"CONVERGENCE: {len(here ^ there)} attempts are on one of the student's devices alone"


@contextmanager
def running_world(
    folder: Path,
    seed: int,
    database_url: str,
    server_url: str | None = None,
    settings: Mapping[str, str] | None = None,
    wire: Wire | None = None,
) -> Iterator[World]:
    """A world that runs, the app included, over a migrated database. The cloud API reaches it by `server_url`, else by the same address.

    With a `wire` the caller is in the school's network, where the database is, and the daemon passes by the proxy.
    """
    with ExitStack() as parts:
        database = parts.enter_context(closing(CloudDatabase(database_url, CONNECTIONS, 1)))
        cloud = Cloud(server_url or database_url, folder, settings, SCHOOL_ADDRESS if wire else HOST)
        proxy = parts.enter_context(faulty_proxy(cloud.port, seed))
        fleet = parts.enter_context(running_fleet(SchoolBuilder.build(database), cloud.url if wire else proxy.url, folder))
        student = fleet.school.add_user("ada").id
        enter: Enter = wire.device.entered if wire else nullcontext
        daemon = _enrolled(fleet, student, enter)
        app = LearningApp(
            daemon.state_dir, student, fleet.questions, lambda ids: _at_school(database, fleet.school.id, ids), seed, enter=enter
        )
        for program in (cloud, daemon):
            parts.callback(program.kill)
            program.start()
        parts.callback(app.stop)
        cloud.await_ready()
        daemon.await_ready()
        daemon.sync()
        app.start()
        yield World(seed, fleet, student, cloud, proxy, daemon, app, random.Random(f"chaos {seed}"), wire)


def _enrolled(fleet: Fleet, student: Id, enter: Enter) -> Daemon:
    """A state folder as enrolment leaves it, closed."""
    device = fleet.device(Grant("student", student))
    device.gateway.close()
    device.database.close()
    return Daemon(device.folder, device.folder / DEVICE_FILE, enter)


def _at_school(database: CloudDatabase, school_id: str, ids: set[str]) -> bool | None:
    """Whether all of these attempts are in the school's database; None while it cannot be asked."""
    try:
        with database.transaction(read_only=True) as cursor:
            cursor.execute("SELECT count(*) FROM question_attempts WHERE school_id = %s AND id = ANY(%s::uuid[])", (school_id, list(ids)))
            row = cursor.fetchone()
    except Unavailable:
        return None
    return bool(row and row[0] == len(ids))
