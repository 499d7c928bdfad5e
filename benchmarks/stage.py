"""What every benchmark plays on: a PostgreSQL with fsync, a school with a real course, and two devices of its class. All of it in one temporary
folder on the loopback, gone afterwards.

School and devices are made once and copied for every measurement, so that repeated runs begin alike.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import psycopg2

from benchmarks.device import enrol, open_device, point_to
from benchmarks.processes import Running, serving_cloud, sync_in_own_process
from cloud_api.database import CloudDatabase
from cloud_api.embedded import EmbeddedPostgres, reachable_folder
from daemon.config import DATABASE_NAME
from devstack.seeding import SeededSchool, new_enrolment_code, seed
from migrations.runner import upgrade_cloud, upgrade_device

# Names of the databases that others are copied from.
SCHOOL, FILLED = "school", "filled"
STATE_DIR_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: attempts pushed and pulled, repetitions, and how long the daemon is watched at rest."""

    rows: int = 100_000
    runs: int = 3
    rest_s: float = 30.0


class Stage:
    """School, devices and servers for one run of the benchmarks. Not for several threads."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, effort: Effort) -> None:
        self.effort = effort
        self.postgres = postgres
        self._folder = folder
        self._numbers = count(1)
        self.school = self._build()

    # --- devices, as closed state folders

    @property
    def writer(self) -> Path:
        """A device of the class that has pulled the course and holds no attempts. Not to be changed: take a `copy`."""
        return self._folder / "writer"

    @property
    def reader(self) -> Path:
        """Another device of the class, enrolled, and nothing pulled. Not to be changed: take a `copy`."""
        return self._folder / "reader"

    @cached_property
    def queued(self) -> Path:
        """The writer with `effort.rows` attempts queued. Not to be changed: take a `copy`."""
        folder = self.copy(self.writer)
        with open_device(folder) as device:
            device.study(self.effort.rows, device.students())
        return folder

    @cached_property
    def pushed(self) -> Path:
        """The writer after it has pushed its `effort.rows` attempts to the database FILLED, which this makes. Not to be changed."""
        folder = self.copy(self.queued)
        url = self.postgres.create_database(FILLED, SCHOOL)
        with serving_cloud(url) as cloud:
            point_to(folder, cloud.url)
            sync_in_own_process(folder)
        execute(url, "ANALYZE")
        return folder

    def copy(self, device: Path, cloud_url: str | None = None) -> Path:
        """A copy of a closed device, on the disk, which finds its school at `cloud_url`."""
        folder = self._folder / f"device-{next(self._numbers)}"
        shutil.copytree(device, folder)
        if cloud_url is not None:
            point_to(folder, cloud_url)
        for path in folder.iterdir():
            _to_disk(path)
        return folder

    def blank_file(self) -> Path:
        """A state folder with an empty migrated database, of no device."""
        folder = self._folder / f"device-{next(self._numbers)}"
        folder.mkdir(STATE_DIR_MODE)
        upgrade_device(folder / DATABASE_NAME)
        return folder

    def forget(self, device: Path) -> None:
        """Removes a copy."""
        shutil.rmtree(device)

    # --- the school's server

    def beyond_row_security(self, url: str) -> str:
        """The same database for a superuser: what a floor does is not slowed down by the wall between schools, nor is COPY closed to it."""
        return self.postgres.superuser_url_for(url.rpartition("/")[2])

    @contextmanager
    def database(self, template: str = SCHOOL) -> Iterator[str]:
        """The address of a fresh copy of the school's database, or of the filled one, all of it on the disk; dropped afterwards."""
        if template == FILLED:
            _ = self.pushed
        name = f"{template}_{next(self._numbers)}"
        url = self.postgres.create_database(name, template)
        execute(self.postgres.url, "CHECKPOINT")
        try:
            yield url
        finally:
            self.postgres.drop_database(name)

    @contextmanager
    def cloud(self, template: str = SCHOOL) -> Iterator[Running]:
        """The cloud API over a fresh copy of a database."""
        with self.database(template) as url, serving_cloud(url) as running:
            yield running

    # --- making it

    def _build(self) -> SeededSchool:
        url = self.postgres.create_database(SCHOOL)
        upgrade_cloud(url)
        with closing(CloudDatabase(url, 2, 2)) as database:
            school = seed(database)
            codes = [new_enrolment_code(database, school.id) for _ in range(2)]
        with serving_cloud(url) as cloud:
            for folder, code, pulls in ((self.writer, codes[0], True), (self.reader, codes[1], False)):
                self._enrol(folder, cloud.url, code, pulls=pulls)
        # Here and below as autovacuum does within a minute.
        execute(url, "ANALYZE")
        return school

    def _enrol(self, folder: Path, cloud_url: str, code: str, *, pulls: bool) -> None:
        folder.mkdir(STATE_DIR_MODE)
        upgrade_device(folder / DATABASE_NAME)
        with open_device(folder) as device:
            enrol(device, cloud_url, code)
            if pulls:
                device.sync()


@contextmanager
def open_stage(effort: Effort) -> Iterator[Stage]:
    """A stage as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="carrel-bench-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # PostgreSQL runs under another account then, and must get through
    data_dir = reachable_folder(folder / "postgres")
    try:
        with EmbeddedPostgres.start(data_dir, durable=True) as postgres:
            yield Stage(folder, postgres, effort)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """What a copy leaves in the cache would else be written during the measurement."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def execute(url: str, statement: str) -> None:
    """One statement outside of a transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
