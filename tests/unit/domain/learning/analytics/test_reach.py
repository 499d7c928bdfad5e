"""How much of the exam is covered, and what plans leave out."""

from __future__ import annotations

from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.reach import coverage, out_of_reach
from domain.learning.levels import Level


def cell(level: Level) -> Cell:
    return Cell(level, 0.9, 5, 0)


def test_coverage_is_the_weight_at_proficient_or_above() -> None:
    cells = {"a": cell(Level.PROFICIENT), "b": cell(Level.MASTERED), "c": cell(Level.FAMILIAR), "d": cell(Level.NOT_ENOUGH_EVIDENCE)}
    assert coverage(cells, {"a": 30.0, "b": 10.0, "c": 40.0, "d": 10.0, "never met": 10.0}) == 0.4
    assert coverage({}, {"a": 1.0}) == 0.0


def test_where_no_concept_has_a_weight_there_is_no_coverage_to_tell() -> None:
    assert coverage({"a": cell(Level.MASTERED)}, {}) is None
    assert coverage({"a": cell(Level.MASTERED)}, {"a": 0.0}) is None


def test_a_topic_is_out_of_reach_of_a_plan_that_leaves_out_half_of_it() -> None:
    topics = {"first": ["a", "b", "c", "d"], "second": ["e"], "third": ["f"], "empty": []}
    plans = {"ada": {"a", "b", "f"}, "ben": {"a", "e", "f"}, "cem": set[str]()}
    found = out_of_reach(plans, topics)
    assert [(t.topic_id, t.students, t.concepts, t.plans) for t in found] == [
        ("third", ("ada", "ben"), 1, 3),
        ("first", ("ada",), 4, 3),
        ("second", ("ben",), 1, 3),
    ], "those of most students first, else as they are taught"
