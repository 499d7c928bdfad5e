"""One PostgreSQL for all seeds, a school each; a migrated SQLite file to copy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer
from migrations.runner import upgrade_cloud, upgrade_device
from tests.support.postgres import temporary_database

# Memory instead of a disk: the simulation loses power by itself.
MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def simulated_cloud(postgres: DatabaseServer) -> Iterator[CloudDatabase]:
    with temporary_database(postgres) as url:
        upgrade_cloud(url)
        database = CloudDatabase(url)
        yield database
        database.close()


@pytest.fixture(scope="session")
def device_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "device.sqlite3"
    upgrade_device(path)
    return path


@pytest.fixture
def memory_path() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="carrel-sim-", dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
