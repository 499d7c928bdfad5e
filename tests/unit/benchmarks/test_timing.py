"""How repeated runs become one ratio."""

from __future__ import annotations

import pytest

from benchmarks.timing import Pair, alternate, ratio_of, speed_against_floor


def test_floor_and_product_take_turns_at_going_first() -> None:
    calls: list[str] = []

    def run(name: str) -> float:
        calls.append(name)
        return 1.0

    alternate(lambda: run("floor"), lambda: run("product"), 3)
    assert calls == ["floor", "product", "product", "floor", "floor", "product"]


def test_each_run_is_compared_with_its_own_floor_whichever_went_first() -> None:
    floors, products = iter([1.0, 10.0]), iter([2.0, 20.0])
    assert alternate(lambda: next(floors), lambda: next(products), 2) == [Pair(1.0, 2.0), Pair(10.0, 20.0)]


def test_a_product_that_takes_twice_as_long_has_half_the_speed() -> None:
    assert speed_against_floor([Pair(1.0, 2.0)]).middle == 0.5


def test_drift_of_the_machine_falls_out_of_the_ratio() -> None:
    share = speed_against_floor([Pair(1.0, 2.0), Pair(7.0, 14.0), Pair(0.5, 1.0)])
    assert share.spread == (0.5, 0.5)


def test_one_disturbed_run_moves_the_spread_and_not_the_median() -> None:
    ratio = ratio_of([1.4, 9.0, 1.5])
    assert ratio.middle == pytest.approx(1.5)
    assert ratio.spread == (1.4, 9.0)
