"""Shorter names, where no device is about."""

from __future__ import annotations

import pytest

from cloud_api.database import CloudDatabase
from tests.support.cloud import SchoolBuilder


@pytest.fixture
def database(open_cloud_database: CloudDatabase) -> CloudDatabase:
    """The school server's database."""
    return open_cloud_database


@pytest.fixture
def school(cloud_school: SchoolBuilder) -> SchoolBuilder:
    """An empty school."""
    return cloud_school
