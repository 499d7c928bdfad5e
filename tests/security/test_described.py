"""Both APIs answer whatever is sent as their descriptions say: no 5xx, no answer that is not described, nothing taken that should be refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from cloud_api.enrolment import Grant
from tests.support.cloud import SchoolBuilder
from tests.support.device import DeviceUnderTest, open_device

# Enough to find a wrong type or a missing limit anew every time, and quick.
EXAMPLES = 12
BOUNDED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceUnderTest]:
    with open_device(tmp_path_factory.mktemp("described")) as opened:
        yield opened


def wrong_answers(schema: Any, headers: dict[str, str], without: Sequence[Any] = ()) -> dict[str, str]:
    """Operation -> what was wrong with the first answer that was not as described, to requests as they should be and as they should not."""
    found = {}
    for mode in GenerationMode:
        for result in schema.get_all_operations():
            operation = result.ok()

            @BOUNDED
            @given(case=operation.as_strategy(generation_mode=mode))
            def answers_as_described(case: Any) -> None:
                case.call_and_validate(headers=headers, excluded_checks=list(without))

            try:
                answers_as_described()
            except Unsatisfiable:  # an operation that takes nothing cannot be asked wrongly
                continue
            except (Exception, FailureGroup) as failure:  # noqa: BLE001  # whatever it is, it is told with its operation
                found[f"{mode.name} {operation.label}"] = f"{type(failure).__name__}: {failure}"[:2_000]
    return found


def test_the_localhost_api_answers_as_described(device: DeviceUnderTest) -> None:
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", device.app)
    assert wrong_answers(schema, {"Authorization": f"Bearer {device.signed_in().token}"}) == {}


def test_the_cloud_api_answers_as_described(flask_cloud: Flask, cloud_school: SchoolBuilder) -> None:
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", flask_cloud)
    token = cloud_school.enrol(Grant("student", cloud_school.add_user("ada").id)).token
    # What columns mean, and that ids are ids, no schema says: such a request is 422, and described as that.
    assert wrong_answers(schema, {"Authorization": f"Bearer {token}"}, without=[positive_data_acceptance]) == {}
