"""A class with a course."""

from __future__ import annotations

import pytest

from tests.support.classroom import Classroom
from tests.support.cloud import SchoolBuilder


@pytest.fixture
def room(cloud_school: SchoolBuilder) -> Classroom:
    return Classroom.of(cloud_school)
