"""Devices of Ada's that can write bundles."""

from __future__ import annotations

import pytest

from cloud_api.devices.enrolment import Grant
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import device_with_keys


@pytest.fixture
def laptop(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's laptop, with the course, and keys for bundles."""
    device = device_with_keys(fleet, Grant("student", ada))
    assert device.sync().outcome == "done"
    return device


@pytest.fixture
def tablet(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's tablet, which has never had a network."""
    return device_with_keys(fleet, Grant("student", ada))
