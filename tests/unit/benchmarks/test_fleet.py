"""The figures of a fleet."""

from __future__ import annotations

import pytest

from benchmarks.fleet import percentile


@pytest.mark.parametrize(("percent", "expected"), [(50, 3), (99, 5), (100, 5), (20, 1), (21, 2)])
def test_a_percentile_is_the_smallest_value_that_so_many_percent_are_not_above(percent: float, expected: float) -> None:
    assert percentile([5, 1, 4, 2, 3], percent) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0
