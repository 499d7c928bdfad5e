"""PostgreSQL, cloud API and daemon on one machine: started in this order, stopped the other way round.

    PostgreSQL → migrations → seeds → cloud API → daemon → enrolment → first pull

Everything is found again at the next start: the databases are migrated if need be, what is seeded or enrolled stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud_api.config import DATABASE_URL_VARIABLE
from cloud_api.database import CloudDatabase
from cloud_api.embedded import EmbeddedPostgres, reachable_folder
from devstack.client import DaemonClient, answers
from devstack.device_file import school_address
from devstack.display import Display
from devstack.place import Place
from devstack.processes import Child, run_to_end
from devstack.seeding import COURSE_TITLE, DEMO_PIN, SeededSchool, let_teacher_in, new_enrolment_code, seed
from domain.errors import OperatorError
from migrations.runner import upgrade_cloud

EMBEDDED_DATABASE = "carrel"
POSTGRES_FOLDER = "postgres"
# Temporary files of the cloud API.
SCRATCH_FOLDER = "tmp"
DEVICE_NAME = "Demo device"
# This process administers; the cloud API has connections of its own.
CONNECTIONS = 2
ENROL_TIMEOUT_S = 90.0
# How long the first pull may take. It brings some thousand rows.
COURSE_TIMEOUT_S = 60.0
POLL_S = 0.1
# States of GET /v1/status in which everything from school is here.
_ARRIVED = ("synced", "rejected")


@dataclass(frozen=True)
class Stack:
    """A stack that runs. `database` and `client` belong to the thread that made it."""

    place: Place
    school: SeededSchool
    database: CloudDatabase
    cloud: Child
    daemon: Child
    client: DaemonClient

    def demand_alive(self) -> None:
        """Raises OperatorError with the end of its log when a child has ended by itself."""
        self.daemon.demand_alive()
        self.cloud.demand_alive()


@contextmanager
def running(place: Place, display: Display) -> Iterator[Stack]:
    """A stack as long as the block lasts. Raises OperatorError when a part does not start; those before it are stopped again then."""
    with ExitStack() as parts:
        database, school = parts.enter_context(seeded(place.state_dir, place.database_url, display))
        if place.database_url is None:  # a password that everybody knows belongs on no other server
            let_teacher_in(database, school.id)
        cloud, daemon = _children(place, database.url)
        client = parts.enter_context(closing(DaemonClient(place.device.url, place.device_state_dir)))
        for child in (cloud, daemon):
            with display.step(child.name):
                parts.callback(child.stop)
                child.start()
                child.await_ready()
        stack = Stack(place, school, database, cloud, daemon, client)
        with display.step("Enrolment and first pull"):
            _enrol_if_needed(stack)
            _await_course(stack)
            client.set_pins(DEMO_PIN)
        yield stack


@contextmanager
def seeded(state_dir: Path, database_url: str | None, display: Display) -> Iterator[tuple[CloudDatabase, SeededSchool]]:
    """The school's database, migrated and seeded: the one at `database_url`, else (None) on a server of our own with its data in `state_dir`.

    Raises OperatorError when there is no PostgreSQL, or when it does not start.
    """
    with ExitStack() as parts:
        with display.step("PostgreSQL"):
            url = parts.enter_context(_postgres(state_dir, database_url))
            upgrade_cloud(url)
        database = parts.enter_context(closing(CloudDatabase(url, CONNECTIONS, CONNECTIONS)))
        with display.step("School and course"):
            school = seed(database)
        yield database, school


@contextmanager
def _postgres(state_dir: Path, database_url: str | None) -> Iterator[str]:
    if database_url:
        yield database_url
        return
    with EmbeddedPostgres.start(reachable_folder(state_dir / POSTGRES_FOLDER)) as server:
        yield server.ensure_database(EMBEDDED_DATABASE)


def _children(place: Place, database_url: str) -> tuple[Child, Child]:
    # The device's processes have no use for the address of the school's database, and it holds a password.
    device_environ = {name: value for name, value in place.environ.items() if name != DATABASE_URL_VARIABLE}
    # What a killed server leaves behind goes with the folder of everything else.
    scratch = place.state_dir / SCRATCH_FOLDER
    scratch.mkdir(mode=0o700, exist_ok=True)
    cloud_environ = {**place.environ, DATABASE_URL_VARIABLE: database_url, "TMPDIR": str(scratch)}
    cloud_ready, daemon_ready = f"{place.cloud.url}/readyz", f"{place.device.url}/v1/health"
    # Migrated and checked already.
    serve = ["cloud_api.cli", "serve", "--no-migrate"]
    return (
        Child("Cloud API", serve, cloud_environ, place.log("cloud"), lambda: answers(cloud_ready)),
        Child("Daemon", ["daemon.cli", "run"], device_environ, place.log("daemon"), lambda: answers(daemon_ready)),
    )


def _enrol_if_needed(stack: Stack) -> None:
    """Enrols the device, unless it is one of this server already. After a change of the server's port it is enrolled once more, and what is
    queued on it stays."""
    place = stack.place
    if school_address(place.device_database) == place.cloud.url:
        return
    code = new_enrolment_code(stack.database, stack.school.id)
    command = ["daemon.cli", "enrol", place.cloud.url, code, "--name", DEVICE_NAME]
    exit_code, output = run_to_end(command, place.environ, ENROL_TIMEOUT_S)
    if exit_code:
        raise OperatorError(f"The device could not be enrolled: {output}\n(`make reset` forgets the data of both sides and begins anew.)")


def _await_course(stack: Stack) -> None:
    """Waits until everything from school is on the device."""
    deadline_s = time.monotonic() + COURSE_TIMEOUT_S
    while (status := stack.client.status())["state"] not in _ARRIVED:
        stack.demand_alive()
        if status["reason"] == "unauthorised":
            raise OperatorError(
                f"{status['message']} Its data is not that of the school which this device knows: `make reset` forgets both and begins anew."
            )
        if time.monotonic() > deadline_s:
            why = status["message"] or f"it is {status['state']}"
            raise OperatorError(f"{COURSE_TITLE} did not reach the device within {COURSE_TIMEOUT_S:.0f} s: {why}")
        time.sleep(POLL_S)
