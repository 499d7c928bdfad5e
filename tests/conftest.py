"""Fixtures that every test may use, and the order of the suite."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cloud_api.embedded import DatabaseServer
from tests.support.memory import MEMORY, has_room
from tests.support.postgres import running_server, temporary_database

# No property test is judged by a clock: the machine may have other things to do.
settings.register_profile("carrel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("carrel")

# A mistake shows soonest when the quick folders come first. The last one ends with short files: no process works alone for long.
FOLDER_ORDER = ("unit", "migration", "integration", "security", "pages", "simulation", "chaos", "system")

# Where pytest makes `tmp_path`, unless it is told.
if has_room():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by folder, quick ones first; tests directly in tests/ lead. Order within a folder stays."""
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return FOLDER_ORDER.index(folder) if folder in FOLDER_ORDER else -1

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What is there now stays: the collector of garbage looks at what tests make alone."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def registers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where commands of tests keep what must outlive a database, unless they are told another place: never among the registers of this account."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("registers")
        patched.setenv("CARREL_CLOUD_ERASURES_FILE", str(folder / "erasures.jsonl"))
        yield folder


# PostgreSQL: one server per session (with xdist: per worker, a start takes half a second), one database per test.


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """A PostgreSQL server on which tests may create databases."""
    with running_server() as server:
        yield server


@pytest.fixture
def fresh_database(postgres: DatabaseServer) -> Iterator[str]:
    """The address of an empty database of this test's own."""
    with temporary_database(postgres) as url:
        yield url


# Migrated databases (`cloud_database`: a copy of a template that was migrated once per session) belong here.
