"""The school's server for tests: a migrated database each, a school with a course, and the cloud API over real HTTP."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cheroot.wsgi import Server
from flask import Flask
from flask.testing import FlaskClient

from cloud_api import config
from cloud_api.app import create_app
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import EnrolledDevice, Grant, create_code, redeem
from cloud_api.embedded import DatabaseServer
from cloud_api.imports.course_files import CourseFiles
from cloud_api.imports.loading import Importer
from cloud_api.people import User, create_user, find_class
from cloud_api.schools import create_school
from domain.clock import Clock, SystemClock
from domain.ids import Id, IdSource
from domain.sealing import PublicKeys
from migrations.runner import upgrade_cloud
from tests.support.postgres import temporary_database

COURSE = Path(__file__).parents[2] / "seeds" / "elementary-algebra"
LISTENER_THREADS = 16


@contextmanager
def migrated_template(server: DatabaseServer) -> Iterator[str]:
    """The name of a database migrated to head, to be copied."""
    with temporary_database(server) as url:
        upgrade_cloud(url)
        yield url.rpartition("/")[2]


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The base address of an application that listens on a free loopback port."""
    server = Server(("127.0.0.1", 0), app, numthreads=LISTENER_THREADS)
    server.prepare()
    thread = threading.Thread(target=server.serve, name="live-cloud")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
    finally:
        server.stop()
        thread.join()


@dataclass(frozen=True)
class SchoolBuilder:
    """A school on a server, and short ways to fill it. Every method is a transaction of its own."""

    database: CloudDatabase
    clock: Clock
    ids: IdSource
    id: Id

    @classmethod
    def build(cls, database: CloudDatabase, clock: Clock | None = None) -> SchoolBuilder:
        clock = clock or SystemClock()
        ids = IdSource(clock.now_ms)
        with database.transaction() as cursor:
            school = create_school(cursor, ids.new(), f"School {secrets.token_hex(4)}", clock.now_ms())
        return cls(database, clock, ids, school.id)

    def import_course(self, source: Path | CourseFiles = COURSE, **options: Any) -> Any:
        return Importer(self.database, self.clock, self.ids, self.id, **options).course(source)

    def import_roster(self, path: Path, **options: Any) -> Any:
        return Importer(self.database, self.clock, self.ids, self.id, **options).roster(path)

    def add_user(self, username: str, role: str = "student", classes: Sequence[str] = ()) -> User:
        with self.database.transaction() as cursor:
            return create_user(cursor, self.ids, self.id, username, username.title(), role, classes, self.clock.now_ms())

    def class_id(self, name: str) -> Id:
        with self.database.transaction(read_only=True) as cursor:
            return find_class(cursor, self.id, name)

    def code(self, *grants: Grant, uses: int = 1, expires_h: float = 1.0) -> str:
        with self.database.transaction() as cursor:
            return create_code(cursor, self.ids, self.id, grants, uses, expires_h, self.clock.now_ms())

    def enrol(self, *grants: Grant, name: str = "test device", keys: PublicKeys | None = None) -> EnrolledDevice:
        """A device with these grants, enrolled without HTTP."""
        code = self.code(*grants)
        with self.database.transaction() as cursor:
            return redeem(cursor, self.ids, code, name, "test", self.clock.now_ms(), keys)

    def value(self, query: str, *parameters: Any) -> Any:
        """The first column of the first row of a query."""
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute(query, parameters)
            row = cursor.fetchone()
            return row[0] if row else None

    @property
    def head(self) -> int:
        """The feed number of the school's latest change."""
        return int(self.value("SELECT head FROM schools WHERE id = %s", self.id))


# Fixtures. A folder's conftest.py registers them by importing those it needs, with those that they need in turn.


@pytest.fixture(scope="session")
def cloud_template(postgres: DatabaseServer) -> Iterator[str]:
    """The name of the migrated database of which every test gets a copy."""
    with migrated_template(postgres) as name:
        yield name


@pytest.fixture
def cloud_database(postgres: DatabaseServer, cloud_template: str) -> Iterator[str]:
    """The address of a database of this test's own, migrated to head."""
    with temporary_database(postgres, cloud_template) as url:
        yield url


@pytest.fixture
def open_cloud_database(cloud_database: str) -> Iterator[CloudDatabase]:
    """The same database, opened."""
    opened = CloudDatabase(cloud_database)
    yield opened
    opened.close()


@pytest.fixture
def cloud_school(open_cloud_database: CloudDatabase) -> SchoolBuilder:
    """An empty school in it."""
    return SchoolBuilder.build(open_cloud_database)


# Tests ask as fast as they can; the pace that a server keeps has tests of its own.
PATIENT = config.CloudConfig(server=config.Server(token_requests_per_s=10_000))


@pytest.fixture
def flask_cloud(open_cloud_database: CloudDatabase) -> Flask:
    """The cloud API's application over it."""
    return create_app(PATIENT, open_cloud_database)


@pytest.fixture
def cloud_app(flask_cloud: Flask) -> FlaskClient:
    """A client of the cloud API without a network."""
    return flask_cloud.test_client()


@pytest.fixture
def live_cloud(flask_cloud: Flask) -> Iterator[str]:
    """The base address of the cloud API over real HTTP."""
    with serving(flask_cloud) as url:
        yield url
