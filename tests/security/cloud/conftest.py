"""The school's server, its database, and a clock that tests set."""

from __future__ import annotations

import pytest
from flask import Flask

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from tests.security.cloud.staff import Staffroom
from tests.support.cloud import SchoolBuilder, cloud_database, cloud_template, open_cloud_database
from tests.support.device import ManualClock

__all__ = ["cloud_database", "cloud_template", "open_cloud_database"]


@pytest.fixture
def clock() -> ManualClock:
    """The server's clock."""
    return ManualClock()


@pytest.fixture
def app(open_cloud_database: CloudDatabase, clock: ManualClock) -> Flask:
    """The cloud API under that clock."""
    return create_app(CloudConfig(), open_cloud_database, clock)


@pytest.fixture
def school(open_cloud_database: CloudDatabase, clock: ManualClock) -> SchoolBuilder:
    """An empty school."""
    return SchoolBuilder.build(open_cloud_database, clock)


@pytest.fixture
def staffroom(app: Flask, school: SchoolBuilder) -> Staffroom:
    """The school with somebody of each role, all with passwords."""
    return Staffroom.of(app, school)
