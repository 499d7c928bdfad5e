"""A device for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import DeviceUnderTest, open_device


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    """A seeded device with its API, open for this test."""
    with open_device(tmp_path) as opened:
        yield opened
