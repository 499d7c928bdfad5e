"""The arithmetic and the wording of a report."""

from __future__ import annotations

import pytest

from benchmarks.report import Bound, Check, Result, as_json, as_text


@pytest.mark.parametrize(
    ("bound", "value", "met"),
    [
        (Bound.AT_MOST, 3.9, True),
        (Bound.AT_MOST, 4.0, True),
        (Bound.AT_MOST, 4.1, False),
        (Bound.AT_LEAST, 4.1, True),
        (Bound.AT_LEAST, 4.0, True),
        (Bound.AT_LEAST, 3.9, False),
    ],
)
def test_a_limit_itself_still_meets_the_budget(bound: Bound, value: float, met: bool) -> None:
    assert Check("a write", value, "×", bound, 4).met is met


def test_a_budget_is_met_only_when_all_of_its_checks_are() -> None:
    good, bad = Check("a", 1, "×", Bound.AT_MOST, 2), Check("b", 3, "×", Bound.AT_MOST, 2)
    assert Result("both", [good, good]).met
    assert not Result("both", [good, bad]).met


def test_what_could_not_be_measured_meets_no_budget_and_says_why() -> None:
    result = Result("push", failure="PostgreSQL did not start.")
    assert not result.met
    assert "PostgreSQL did not start." in as_text(result)


def test_json_holds_the_rounded_value_beside_its_limit_and_the_settings_of_the_run() -> None:
    check = Check("a push", 0.512345, "×", Bound.AT_LEAST, 0.5, (0.48, 0.62))
    report = as_json([Result("push", [check], {"attempts/s": 26_493.21987})], {"rows": 100_000})
    assert report["settings"] == {"rows": 100_000}
    assert report["results"] == [
        {
            "name": "push",
            "met": True,
            "failure": None,
            "checks": [
                {
                    "what": "a push",
                    "value": 0.5123,
                    "unit": "×",
                    "bound": "at_least",
                    "limit": 0.5,
                    "met": True,
                    "spread": [0.48, 0.62],
                }
            ],
            "figures": {"attempts/s": 26_493.2199},
        }
    ]


def test_the_text_shows_value_limit_and_spread_and_marks_what_is_missed() -> None:
    missed = Check("a pull", 0.399, "×", Bound.AT_LEAST, 0.4, (0.37, 0.469))
    text = as_text(Result("pull", [missed], {"attempts/s": 27_548.4}))
    assert "MISSED" in text
    assert "0.399 ×, runs 0.37 to 0.469 (budget ≥ 0.4 ×)" in text
    assert "attempts/s: 27,548" in text
