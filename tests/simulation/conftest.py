"""The ground of all worlds, made once for each process of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud_api.embedded import DatabaseServer
from tests.simulation.ground import Ground, ground_on


@pytest.fixture(scope="session")
def ground(postgres: DatabaseServer) -> Iterator[Ground]:
    with ground_on(postgres) as ground:
        yield ground
