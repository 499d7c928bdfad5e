"""Many devices at once against one server: all come through, with nothing lost. `make fleet` does it with more of them, and says how fast."""

from __future__ import annotations

import pytest

from benchmarks.fleet import Scenario, play


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("a class that enrols in the same moment", 30, 20, real_course=False, first_syncs_max=30),
        Scenario("a school that comes back from the holidays", 40, 25, real_course=False, enrol_at_once=False, first_syncs_max=40),
    ],
    ids=lambda scenario: scenario.name,
)
def test_NO_WEDGE_every_device_comes_through_at_the_first_try(scenario: Scenario) -> None:
    outcome = play(scenario, durable=False)
    assert outcome.problems == []
    assert [(phase.unanswered, phase.failed_rounds) for phase in outcome.phases] == [(0, {})] * len(outcome.phases)
    pushed = next(phase for phase in outcome.phases if phase.operations)
    assert pushed.operations == scenario.devices * scenario.attempts
    assert pushed.requests["push"][0] >= scenario.devices
