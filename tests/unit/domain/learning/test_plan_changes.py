"""Why a plan is otherwise than the one before: the sentence that a student reads, for each cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import pytest

from domain.learning.plan import ConceptNode, Kind, Pin, PlanItem, PlanRequest
from domain.learning.plan_changes import Basis, Since, plan_changes
from domain.learning.planner import StudyState, make_plan
from tests.unit.domain.learning.test_planner import MONDAY, MONDAY_MS, chain, learnt, request

TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
COURSE = [ConceptNode(f"c{n}", 9 - n) for n in range(9)]
TWELVE = (12,) * 7
BEFORE = request(TWELVE, exam_in=6, horizon=6)
BASIS = Basis(BEFORE.exam_on, BEFORE.minutes_by_weekday)


def whys(
    now: PlanRequest,
    nodes: list[ConceptNode] = COURSE,
    states: Mapping[str, StudyState] | None = None,
    before: PlanRequest = BEFORE,
    basis: Basis | None = BASIS,
    excluded_by_you: frozenset[str] = frozenset(),
) -> dict[tuple[str, Kind], str]:
    """The reasons by concept, when a plan made for `before` from nothing is followed by one made for `now`."""
    told = states or {}
    since = Since(now, told, told.keys(), basis, excluded_by_you)
    changes = plan_changes(make_plan(nodes, {}, before).items, make_plan(nodes, told, now), since)
    return {(change.concept_id, change.kind): change.why for change in changes}


def test_less_and_more_time_is_the_reason_when_minutes_change() -> None:
    less = whys(replace(BEFORE, minutes_by_weekday=(6,) * 7))
    assert set(less.values()) == {"you have 42 minutes a week now, not 84"}
    more = whys(replace(BEFORE, minutes_by_weekday=(18,) * 7))
    assert set(more.values()) == {"you have 126 minutes a week now, not 84"}
    elsewhere = whys(replace(BEFORE, minutes_by_weekday=(0, 24, 12, 12, 12, 12, 12)))
    assert set(elsewhere.values()) == {"your minutes are on other days of the week now"}


@pytest.mark.parametrize(("exam_in", "sentence"), [(60, "the exam is on 2025-05-02 now"), (None, "there is no exam date any more")])
def test_an_exam_that_moved_is_the_reason(exam_in: int | None, sentence: str) -> None:
    reasons = whys(replace(BEFORE, exam_on=None if exam_in is None else MONDAY + timedelta(days=exam_in)))
    assert reasons and set(reasons.values()) == {sentence}


def test_an_exam_that_is_over_is_the_reason() -> None:
    old = [PlanItem(MONDAY + timedelta(days=9), "c0", Kind.REVIEW, 2, "")]
    now = replace(BEFORE, today=MONDAY + timedelta(days=7), horizon_days=9)
    changes = plan_changes(old, make_plan(COURSE, {"c0": learnt(0)}, now), Since(now, {}, (), BASIS))
    assert {change.why for change in changes} == {"the exam of 2025-03-09 is over"}


def test_without_knowing_what_the_older_plan_was_made_for_nothing_is_said_about_it() -> None:
    assert not any("minutes" in why for why in whys(replace(BEFORE, minutes_by_weekday=(6,) * 7), basis=None).values())


def test_who_left_a_concept_out_is_said_and_what_needs_it_says_so() -> None:
    nodes, wide = chain("a", "b", "c"), request((45,) * 7, exam_in=6, horizon=6)
    now = replace(wide, excluded=frozenset("b"))
    basis = Basis(wide.exam_on, wide.minutes_by_weekday)
    by_teacher = whys(now, nodes, before=wide, basis=basis)
    assert (by_teacher["b", Kind.NEW], by_teacher["c", Kind.NEW]) == ("left out by your teacher", "needs something that is left out")
    assert whys(now, nodes, before=wide, basis=basis, excluded_by_you=frozenset("b"))["b", Kind.NEW] == "left out by you"


def test_what_is_no_longer_left_out_says_so() -> None:
    before = replace(BEFORE, excluded=frozenset(["c0"]))
    reasons = whys(BEFORE, before=before, basis=replace(BASIS, excluded=frozenset(["c0"])))
    assert reasons["c0", Kind.NEW] == "no longer left out"


def test_a_pin_is_the_reason_for_what_it_needs_too_and_so_is_its_end() -> None:
    nodes = [*COURSE, *(replace(node, weight=0.01) for node in chain("x", "y"))]
    pinned = replace(BEFORE, pinned=(Pin("y", MONDAY),))
    reasons = whys(pinned, nodes)
    assert reasons["y", Kind.NEW] == "pinned by your teacher"
    assert reasons["x", Kind.NEW] == "needed for what your teacher pinned"
    assert whys(BEFORE, nodes, before=pinned)["y", Kind.NEW] == "no longer pinned"


def test_a_missed_day_a_day_off_and_what_was_put_off_are_named() -> None:
    missed = whys(replace(BEFORE, today=TUESDAY))
    assert (missed["c0", Kind.NEW], missed["c1", Kind.NEW]) == ("not done on 2025-03-03", "not done on 2025-03-03")
    off = whys(replace(BEFORE, days_off=frozenset([TUESDAY])))
    assert (off["c2", Kind.NEW], off["c3", Kind.NEW]) == ("2025-03-04 is a day off", "2025-03-04 is a day off")
    put_off = whys(replace(BEFORE, postponed={"c0": WEDNESDAY}))
    assert put_off["c0", Kind.NEW] == "put off by you"


def test_what_no_longer_fits_into_today_because_time_was_spent_says_so() -> None:
    assert whys(replace(BEFORE, minutes_used=6))["c1", Kind.NEW] == "part of today's time is used already"


def test_an_answer_is_the_reason_before_any_change_of_the_whole_plan() -> None:
    states = {"c0": learnt(0), "c1": StudyState(0, 0.0, MONDAY_MS), "c2": StudyState(0, 1.8, MONDAY_MS)}
    reasons = whys(replace(BEFORE, today=TUESDAY, minutes_by_weekday=(6,) * 7), states=states)
    assert reasons["c0", Kind.NEW] == "learnt since"
    assert reasons["c1", Kind.NEW] == "begun, not learnt yet"
    assert (reasons["c2", Kind.NEW], reasons["c2", Kind.REVIEW]) == ("learnt since", "answered wrongly since")


def test_that_a_concept_was_begun_is_no_reason_to_drop_it() -> None:
    begun = {"c8": StudyState(0, 0.0, MONDAY_MS)}
    assert whys(replace(BEFORE, minutes_by_weekday=(6,) * 7), states=begun)["c8", Kind.NEW] == "you have 42 minutes a week now, not 84"
    too_late = request((6,) * 7, exam_in=3, horizon=3)
    reasons = whys(too_late, nodes=COURSE[:4], states={"c3": StudyState(0, 0.0, MONDAY_MS)}, basis=None)
    assert reasons["c3", Kind.NEW] == "no longer fits before the exam"


def test_a_review_goes_when_its_concept_was_not_learnt_after_all_or_was_just_answered() -> None:
    reviews = [PlanItem(TUESDAY, concept, Kind.REVIEW, 2, "review: yesterday") for concept in ("begun", "wrong", "right")]
    states = {"begun": StudyState(1, 0.0, MONDAY_MS), "wrong": StudyState(0, 1.8, MONDAY_MS), "right": StudyState(4, 9.0, MONDAY_MS)}
    after = make_plan([ConceptNode("other", 1)], {}, BEFORE)
    told = {change.concept_id: change.why for change in plan_changes(reviews, after, Since(BEFORE, states, states.keys()))}
    assert {concept: told[concept] for concept in states} == {
        "begun": "begun, not learnt yet",
        "wrong": "something else gains more by now",
        "right": "answered rightly since",
    }


def test_what_was_planned_for_a_day_stays_unless_something_else_gains_clearly_more() -> None:
    def first(light: float, before: Mapping[date, frozenset[str]]) -> str:
        nodes = [ConceptNode("heavy", 3), ConceptNode("light", light)]
        return make_plan(nodes, {}, request((6,) * 7, exam_in=9, horizon=1, planned_before=before)).items[0].concept_id

    assert first(2, {}) == "heavy"
    assert first(2, {MONDAY: frozenset(["light"])}) == "light"
    assert first(1, {MONDAY: frozenset(["light"])}) == "heavy"
    assert first(2, {TUESDAY: frozenset(["light"])}) == "heavy"
