"""A token that asks without end is told to wait, and no other one is."""

from __future__ import annotations

import pytest

from domain.errors import RateLimited
from domain.request_rate import BURST_S, TOKENS_MAX, RequestRate
from tests.support.device import ManualClock


def test_a_burst_passes_then_the_pace_holds_and_others_are_left_alone() -> None:
    clock = ManualClock()
    rate = RequestRate(clock, 2.0)
    for _ in range(int(2 * BURST_S)):
        rate.take("Bearer one")
    with pytest.raises(RateLimited) as refused:
        rate.take("Bearer one")
    assert refused.value.retry_after_s == pytest.approx(0.5)
    rate.take("Bearer two")
    clock.advance(500)
    rate.take("Bearer one")
    with pytest.raises(RateLimited):
        rate.take("Bearer one")


def test_it_remembers_a_bounded_number_of_tokens() -> None:
    rate = RequestRate(ManualClock(), 2.0)
    for number in range(TOKENS_MAX + 50):
        rate.take(str(number))
    assert len(rate._buckets) == TOKENS_MAX
