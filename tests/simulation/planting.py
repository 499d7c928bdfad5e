"""A plugin for pytest: plants the bug that CARREL_SIM_PLANT names in every test of the run (`-p tests.simulation.planting`)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulation.plants import NAMED_PLANTS

VARIABLE = "CARREL_SIM_PLANT"


@pytest.fixture(autouse=True)
def planted_bug(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The bug is there while the test runs."""
    next(plant for plant in NAMED_PLANTS if plant.name == os.environ[VARIABLE]).plant(monkeypatch)
    yield
