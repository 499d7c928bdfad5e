"""Folders that PostgreSQL's account can reach, and the migrated database of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import cloud_database, cloud_template
from tests.support.devstack import reachable_temporary_folder

__all__ = ["cloud_database", "cloud_template"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for the processes of one test."""
    with reachable_temporary_folder() as place:
        yield place
