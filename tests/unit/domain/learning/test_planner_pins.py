"""What teachers pin, and what changed from one plan to the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.learning.plan import ConceptNode, Kind, Pin
from domain.learning.plan_changes import Since, What, plan_changes
from domain.learning.planner import StudyState, make_plan
from tests.unit.domain.learning.test_planner import FEW_EXAMPLES, IDS, MONDAY, MONDAY_MS, Problem, by_day, chain, learnt, problems, request

TUESDAY = MONDAY + timedelta(days=1)
LIGHT_LAST = [*(ConceptNode(f"h{n}", 9) for n in range(20)), ConceptNode("light", 0.001), *chain("x", "y", "z")]


def test_a_pinned_concept_is_planned_on_its_day_though_others_gain_more() -> None:
    for pin in (Pin("light"), Pin("light", MONDAY), Pin("light", TUESDAY)):
        days = by_day(make_plan(LIGHT_LAST, {}, request((12,) * 7, pinned=(pin,))).items)
        first = next(day for day, items in days.items() if any(i.concept_id == "light" for i in items))
        assert first == (pin.on or MONDAY)
        item = next(i for i in days[first] if i.concept_id == "light")
        assert item.reason.startswith("pinned by your teacher; new: 0.0 % of the exam")


def test_what_a_pinned_concept_needs_comes_before_it_and_what_does_not_fit_waits_for_the_next_day() -> None:
    days = by_day(make_plan(LIGHT_LAST, {}, request((12,) * 7, pinned=(Pin("z", MONDAY),))).items)
    assert [i.concept_id for i in days[MONDAY]] == ["x", "y"]
    assert days[TUESDAY][0].concept_id == "z"
    assert days[MONDAY][0].reason.startswith("needed for what your teacher pinned; ")


def test_a_pin_of_a_learnt_concept_is_a_review_and_pins_that_cannot_be_are_passed_over() -> None:
    pins = (Pin("x"), Pin("nowhere"), Pin("z"), Pin("light"))
    plan = make_plan(LIGHT_LAST, {"x": learnt(0.1, 99)}, request((12,) * 7, horizon=1, pinned=pins, excluded=frozenset(["y", "light"])))
    assert [(i.concept_id, i.kind) for i in plan.items if i.reason.startswith("pinned")] == [("x", Kind.REVIEW)]


def test_a_pin_is_met_once() -> None:
    plan = make_plan(LIGHT_LAST, {}, request((12,) * 7, pinned=(Pin("light"),)))
    assert len(by_day(plan.items)) > 5
    assert [i.concept_id for i in plan.items if i.reason.startswith("pinned")] == ["light"]


@FEW_EXAMPLES
@given(problems(), st.lists(st.builds(Pin, st.sampled_from([*IDS, "elsewhere"]), st.none() | st.just(TUESDAY)), max_size=4))
def test_pins_break_no_prerequisite_no_exclusion_and_no_days_minutes(problem: Problem, pins: list[Pin]) -> None:
    nodes, states, asked = problem
    plan = make_plan(nodes, states, replace(asked, pinned=tuple(pins)))
    needs = {node.id: node.prerequisites for node in nodes}
    ignored = {(edge.concept_id, edge.prerequisite_id) for edge in plan.ignored}
    known = {c for c, state in states.items() if state.learnt}
    for item in plan.items:
        assert item.concept_id not in asked.excluded
        assert item.kind is Kind.REVIEW or all(c in known or (item.concept_id, c) in ignored for c in needs[item.concept_id])
        known.add(item.concept_id)
    for day, items in by_day(plan.items).items():
        assert sum(item.minutes for item in items) <= asked.minutes_by_weekday[day.weekday()]


def test_a_plan_made_again_from_the_same_changes_nothing() -> None:
    asked = request((12,) * 7)
    plan = make_plan(LIGHT_LAST, {}, asked)
    assert plan_changes(plan.items, plan, Since(asked, {}, ())) == []


def test_a_day_that_went_as_planned_changes_nothing_that_was_still_to_come() -> None:
    nodes = [ConceptNode(f"c{n:02}", 20 - n) for n in range(20)]
    asked = request((12,) * 7, horizon=5)
    plan = make_plan(nodes, {}, asked)
    done = {i.concept_id for i in plan.items if i.day == MONDAY}
    states = {c: StudyState(3, 3.0, MONDAY_MS) for c in done}
    tomorrow = replace(asked, today=TUESDAY)
    changes = plan_changes(plan.items, make_plan(nodes, states, tomorrow), Since(tomorrow, states, done))
    assert {change.concept_id for change in changes} <= done
    assert {change.why for change in changes} == {"learnt since"}


def test_every_change_has_its_reason() -> None:
    nodes = [ConceptNode(f"c{n}", 9 - n) for n in range(9)]
    asked = request((12,) * 7, exam_in=5, horizon=5)
    plan = make_plan(nodes, {}, asked)
    assert [i.concept_id for i in plan.items][:4] == ["c0", "c1", "c2", "c3"]
    states = {"c0": learnt(0), "c1": StudyState(0, 0.0, MONDAY_MS)}
    pins, off = (Pin("c8"),), frozenset([MONDAY + timedelta(days=2)])
    tomorrow = replace(asked, today=MONDAY + timedelta(days=2), excluded=frozenset(["c6"]), pinned=pins, days_off=off)
    changes = {
        (c.concept_id, c.kind): c
        for c in plan_changes(plan.items, make_plan(nodes, states, tomorrow), Since(tomorrow, states, {"c0", "c1"}))
    }
    why = {concept: change.why for (concept, kind), change in changes.items() if kind is Kind.NEW}
    assert why["c0"] == "learnt since" and changes["c0", Kind.NEW].what is What.DROPPED
    assert why["c1"] == "begun, not learnt yet" and changes["c1", Kind.NEW].what is What.LATER
    assert why["c2"] == f"not done on {TUESDAY}"
    assert why["c6"] == "left out by your teacher"
    assert why["c8"] == "pinned by your teacher"
    assert why["c4"] == f"{min(off)} is a day off"
    assert "no longer fits before the exam" in why.values()


def test_who_pinned_is_said_in_the_reason_and_in_what_changed() -> None:
    pin = Pin("z", TUESDAY, "you")
    before = make_plan(LIGHT_LAST, {}, request((12,) * 7))
    asked = request((12,) * 7, pinned=(pin,))
    after = make_plan(LIGHT_LAST, {}, asked)
    reasons = {i.concept_id: i.reason.split(";")[0] for i in after.items if "pinned" in i.reason}
    assert reasons == {"x": "needed for what you pinned", "y": "needed for what you pinned", "z": "pinned by you"}
    changes = plan_changes(before.items, after, Since(asked, {}, ()))
    (change,) = (c for c in changes if (c.concept_id, c.kind) == ("z", Kind.NEW))
    assert change.why == "pinned by you"


def test_what_is_postponed_is_not_planned_before_its_day_and_used_minutes_are_gone() -> None:
    whole = by_day(make_plan(LIGHT_LAST, {}, request((12,) * 7)).items)
    first = whole[MONDAY][0].concept_id
    later = by_day(make_plan(LIGHT_LAST, {}, request((12,) * 7, postponed={first: TUESDAY}, minutes_used=6)).items)
    assert first not in {i.concept_id for i in later[MONDAY]}
    assert sum(i.minutes for i in later[MONDAY]) <= 6
    assert first in {i.concept_id for i in later[TUESDAY]}
    assert MONDAY not in by_day(make_plan(LIGHT_LAST, {}, request((12,) * 7, minutes_used=12)).items)
