"""A school with its server over real HTTP, and devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_api.devices.enrolment import Grant
from domain.ids import Id
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import Fleet, SyncedDevice, running_fleet


@pytest.fixture
def fleet(cloud_school: SchoolBuilder, live_cloud: str, tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(cloud_school, live_cloud, tmp_path) as running:
        yield running


@pytest.fixture
def ada(fleet: Fleet) -> str:
    """A student."""
    return fleet.school.add_user("ada").id


@pytest.fixture
def laptop(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's laptop, with the course."""
    device = fleet.device(Grant("student", ada))
    assert device.sync().outcome == "done"
    return device


@pytest.fixture
def tablet(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's tablet, with the course."""
    device = fleet.device(Grant("student", ada))
    assert device.sync().outcome == "done"
    return device
