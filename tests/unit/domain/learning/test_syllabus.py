"""Weights and prerequisites: from topics, where schools state them, to concepts, of which plans are made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.learning.syllabus import DEPTH_MAX, Syllabus, concept_needs, concept_weights, shared_out

# exam ─┬─ algebra (60) ─┬─ linear: a, b
#       │                └─ quadratic: c
#       └─ geometry (40): d
SYLLABUS = Syllabus(
    parent_of={"exam": None, "algebra": "exam", "geometry": "exam", "linear": "algebra", "quadratic": "algebra"},
    weightage_of={"exam": None, "algebra": 60.0, "geometry": 40.0, "linear": None, "quadratic": None},
    concepts_of={"linear": ("a", "b"), "quadratic": ("c",), "geometry": ("d",)},
    needs={"geometry": ("algebra",), "quadratic": ("linear",)},
)


def test_a_stated_weight_is_shared_by_the_subtopics_and_then_by_their_concepts() -> None:
    assert dict(concept_weights(SYLLABUS)) == {"a": 15.0, "b": 15.0, "c": 30.0, "d": 40.0}


def test_the_weights_of_all_concepts_sum_to_the_weights_stated() -> None:
    assert sum(concept_weights(SYLLABUS).values()) == pytest.approx(100.0)


def test_a_concept_needs_the_concepts_of_needed_topics_with_their_subtopics() -> None:
    needs = concept_needs(SYLLABUS)
    assert needs["d"] == {"a", "b", "c"}
    assert needs["c"] == {"a", "b"}
    assert needs["a"] == needs["b"] == set()


def test_what_a_topic_needs_its_subtopics_need_too() -> None:
    syllabus = Syllabus(
        {"top": None, "sub": "top", "base": None},
        {"top": None, "sub": None, "base": None},
        {"sub": ("x",), "base": ("y",)},
        {"top": ("base",)},
    )
    assert concept_needs(syllabus)["x"] == {"y"}


def test_a_concept_of_two_topics_has_a_part_of_both_and_never_needs_itself() -> None:
    syllabus = Syllabus({"p": None, "q": None}, {"p": 10.0, "q": 30.0}, {"p": ("x",), "q": ("x", "y")}, {"q": ("p",)})
    assert dict(concept_weights(syllabus)) == {"x": 25.0, "y": 15.0}
    assert concept_needs(syllabus) == {"x": set(), "y": {"x"}}


def test_without_any_weight_there_are_none() -> None:
    syllabus = Syllabus({"p": None}, {"p": None}, {"p": ("x",)}, {})
    assert dict(concept_weights(syllabus)) == {}


def test_circles_and_bottomless_hierarchies_end() -> None:
    circle = Syllabus({"p": "q", "q": "p"}, {"p": None, "q": None}, {"p": ("x",)}, {"p": ("q",)})
    assert circle.ancestry("p") == ["p", "q"]
    assert concept_needs(circle)["x"] == set()
    deep = Syllabus({str(n): str(n + 1) for n in range(100)} | {"100": None}, {}, {}, {})
    assert len(deep.ancestry("0")) == DEPTH_MAX


def test_minutes_stated_of_a_topic_are_shared_out_like_weights() -> None:
    minutes = {"algebra": 120.0, "geometry": None}
    assert dict(shared_out(SYLLABUS, minutes)) == {"a": 30.0, "b": 30.0, "c": 60.0}


def test_concepts_are_taught_in_the_order_of_positions_level_by_level() -> None:
    positions = {"algebra": 2, "geometry": 1, "linear": 2, "quadratic": 1}
    assert replace(SYLLABUS, position_of=positions).in_teaching_order() == ["d", "c", "a", "b"]


def test_a_concept_of_two_topics_is_taught_with_the_first() -> None:
    syllabus = Syllabus({"p": None, "q": None}, {}, {"p": ("y", "x"), "q": ("x", "z")}, {}, {}, {"p": 2, "q": 1})
    assert syllabus.in_teaching_order() == ["x", "z", "y"]
