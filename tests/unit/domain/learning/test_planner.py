"""The study plan: what it must never do, what it prefers, and that it is the same wherever it is made."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.learning.mastery import DAY_MS, FoldedAttempt
from domain.learning.planner import (
    BLOCK_MINUTES_MAX,
    HORIZON_DAYS_MAX,
    ConceptNode,
    Kind,
    Plan,
    PlanItem,
    PlanRequest,
    StudyState,
    best_steps,
    make_plan,
    recall,
    study_states,
)

FEW_EXAMPLES = settings(max_examples=60)
MONDAY = date(2025, 3, 3)
MONDAY_MS = int(datetime(2025, 3, 3, tzinfo=UTC).timestamp() * 1000)
EVERY_DAY = (45,) * 7


def request(minutes: tuple[int, ...] = EVERY_DAY, exam_in: int | None = 30, horizon: int = 60, **options: object) -> PlanRequest:
    exam_on = None if exam_in is None else MONDAY + timedelta(days=exam_in)
    return PlanRequest(MONDAY, exam_on, minutes, horizon, **options)  # type: ignore[arg-type]


def learnt(days_ago: float, stability_days: float = 3.0) -> StudyState:
    return StudyState(3, stability_days, MONDAY_MS - int(days_ago * DAY_MS))


def chain(*ids: str) -> list[ConceptNode]:
    """Concepts of weight 1, each needing the one before it."""
    return [ConceptNode(c, 1.0, ids[n - 1 : n] if n else ()) for n, c in enumerate(ids)]


def by_day(items: Sequence[PlanItem]) -> dict[date, list[PlanItem]]:
    return {day: list(group) for day, group in groupby(items, key=lambda item: item.day)}


def order_of(plan: Plan) -> list[str]:
    return [item.concept_id for item in plan.items if item.kind is Kind.NEW]


IDS = [f"c{n}" for n in range(12)]
Problem = tuple[list[ConceptNode], dict[str, StudyState], PlanRequest]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Any graph over twelve concepts, circles and unknown prerequisites included; any history; any time table."""
    needs = st.lists(st.sampled_from([*IDS, "elsewhere"]), max_size=3).map(tuple)
    weight, minutes = st.sampled_from([0.0, 0.1, 0.7, 1 / 3]), st.integers(1, 40)
    nodes = [ConceptNode(c, draw(weight), draw(needs), draw(minutes)) for c in IDS]
    state = st.builds(
        StudyState,
        st.integers(0, 4),
        st.sampled_from([0.0, 1.0, 3.0, 20.0]),
        st.integers(0, 400).map(lambda d: MONDAY_MS - d * DAY_MS // 4),
    )
    states = draw(st.dictionaries(st.sampled_from(IDS), state))
    weekdays = draw(st.tuples(*[st.sampled_from([0, 1, 5, 17, 45, 90])] * 7))
    days_off = draw(st.frozensets(st.integers(0, 9).map(lambda n: MONDAY + timedelta(days=n))))
    exam_in = draw(st.none() | st.integers(-3, 20))
    return (
        nodes,
        states,
        request(
            weekdays, exam_in, draw(st.integers(1, 15)), days_off=days_off, excluded=draw(st.frozensets(st.sampled_from(IDS), max_size=2))
        ),
    )


@FEW_EXAMPLES
@given(problems())
def test_no_day_is_over_its_minutes_and_no_day_off_exam_day_or_later_is_used(problem: Problem) -> None:
    asked = problem[2]
    for day, items in by_day(make_plan(*problem).items).items():
        assert sum(item.minutes for item in items) <= asked.minutes_by_weekday[day.weekday()]
        assert day not in asked.days_off
        assert MONDAY <= day < MONDAY + timedelta(days=asked.horizon_days)
        assert asked.exam_on is None or asked.exam_on < MONDAY or day < asked.exam_on


@FEW_EXAMPLES
@given(problems())
def test_no_concept_comes_before_one_that_it_needs_and_none_is_learnt_twice(problem: Problem) -> None:
    nodes, states, asked = problem
    plan = make_plan(nodes, states, asked)
    needs = {node.id: node.prerequisites for node in nodes}
    ignored = {(edge.concept_id, edge.prerequisite_id) for edge in plan.ignored}
    known = {c for c, state in states.items() if state.learnt}
    whole = {step.concept_id: step.minutes for node in nodes for step in best_steps([replace(node, prerequisites=())], states, request())}
    spent: Counter[str] = Counter()
    for item in plan.items:
        assert item.concept_id not in asked.excluded
        if item.kind is Kind.REVIEW:
            assert item.concept_id in known
            continue
        assert item.concept_id not in known
        assert all(c in known or (item.concept_id, c) in ignored for c in needs[item.concept_id])
        spent[item.concept_id] += item.minutes
        if spent[item.concept_id] >= whole[item.concept_id]:
            known.add(item.concept_id)


@FEW_EXAMPLES
@given(problems())
def test_reviews_come_first_no_three_new_concepts_follow_each_other_and_sittings_are_short(problem: Problem) -> None:
    for items in by_day(make_plan(*problem).items).values():
        kinds = [item.kind for item in items]
        assert all(Kind.REVIEW in kinds[n : n + 3] for n in range(len(kinds) - 2))
        from_first_new = kinds[kinds.index(Kind.NEW) :] if Kind.NEW in kinds else []
        assert from_first_new.count(Kind.REVIEW) == max(0, (kinds.count(Kind.NEW) - 1) // 2)
        blocks = [list(block) for _, block in groupby(items, key=lambda item: item.block)]
        assert [block[0].block for block in blocks] == list(range(len(blocks)))
        assert all(len(block) == 1 or sum(item.minutes for item in block) <= BLOCK_MINUTES_MAX for block in blocks)


@FEW_EXAMPLES
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_inputs_does_not_change_the_plan(problem: Problem, shuffler: random.Random) -> None:
    nodes, states, asked = problem
    shuffled = [
        ConceptNode(n.id, n.weight, tuple(shuffler.sample(n.prerequisites, len(n.prerequisites))), n.minutes_to_learn, n.position)
        for n in nodes
    ]
    shuffler.shuffle(shuffled)
    other_states = dict(shuffler.sample(sorted(states.items()), len(states)))
    assert make_plan(shuffled, other_states, asked) == make_plan(nodes, states, asked)


def reaches(start: str, goal: str, edges: set[tuple[str, str]]) -> bool:
    seen, todo = set(), [start]
    while todo:
        concept = todo.pop()
        if concept == goal:
            return True
        if concept not in seen:
            seen.add(concept)
            todo += [p for c, p in edges if c == concept]
    return False


@FEW_EXAMPLES
@given(problems())
def test_only_edges_that_close_a_circle_or_point_nowhere_are_ignored(problem: Problem) -> None:
    nodes = problem[0]
    ignored = {(e.concept_id, e.prerequisite_id): e.why for e in make_plan(*problem).ignored}
    edges = {(node.id, p) for node in nodes for p in node.prerequisites}
    kept = edges - set(ignored)
    assert not any(reaches(p, c, kept) for c, p in kept)
    for (concept, prerequisite), why in ignored.items():
        assert why == ("unknown" if prerequisite == "elsewhere" else "circle")
        assert prerequisite == "elsewhere" or reaches(prerequisite, concept, kept)


def test_a_circle_is_reported_and_its_concepts_are_planned_all_the_same() -> None:
    nodes = [ConceptNode("a", 1, ("c",)), ConceptNode("b", 1, ("a",)), ConceptNode("c", 1, ("b",)), ConceptNode("d", 1, ("d",))]
    plan = make_plan(nodes, {}, request())
    assert {(e.concept_id, e.prerequisite_id, e.why) for e in plan.ignored} == {("b", "a", "circle"), ("d", "d", "circle")}
    assert sorted(order_of(plan)) == ["a", "b", "c", "d"]


def test_a_chain_deeper_than_the_recursion_limit_is_planned() -> None:
    ids = [f"c{n:05}" for n in range(3000)]
    nodes = [ConceptNode(c, 1.0, tuple(ids[n + 1 : n + 2])) for n, c in enumerate(ids)]
    assert order_of(make_plan(nodes, {}, request(horizon=1)))[:2] == ["c02999", "c02998"]


def test_a_narrow_graph_fills_the_day_as_what_is_planned_counts_as_learnt() -> None:
    plan = make_plan(chain("a", "b", "c", "d"), {}, request(horizon=1))
    assert order_of(plan) == ["a", "b", "c", "d"]


def test_the_concept_worth_more_in_the_exam_comes_first() -> None:
    assert order_of(make_plan([ConceptNode("a", 1), ConceptNode("b", 3), ConceptNode("c", 2)], {}, request())) == ["b", "c", "a"]


def test_a_light_concept_that_opens_heavy_ones_comes_before_a_middling_one() -> None:
    nodes = [ConceptNode("key", 0.1), ConceptNode("lone", 3), ConceptNode("x", 7, ("key",)), ConceptNode("y", 5, ("key",))]
    assert order_of(make_plan(nodes, {}, request()))[0] == "key"
    assert order_of(make_plan([nodes[0], nodes[1]], {}, request()))[0] == "lone"


def test_a_concept_quicker_to_learn_comes_first_at_equal_weight() -> None:
    assert order_of(make_plan([ConceptNode("a", 1, (), 20), ConceptNode("b", 1, (), 5)], {}, request())) == ["b", "a"]


def test_a_goal_that_cannot_be_reached_before_the_exam_is_worth_nothing() -> None:
    nodes = [*chain("a", "b"), ConceptNode("goal", 90, ("b",)), ConceptNode("lone", 1.5)]
    assert order_of(make_plan(nodes, {}, request((12,) * 7, exam_in=1))) == ["lone", "a"]
    assert order_of(make_plan(nodes, {}, request((12,) * 7, exam_in=3)))[:3] == ["a", "b", "goal"]


def test_a_third_new_concept_is_planned_only_if_there_is_time_to_part_it_from_the_two_before() -> None:
    nodes = [ConceptNode(c, 1, (), 8) for c in "abc"]
    plans = [make_plan(nodes, {}, request((minutes,) * 7, horizon=1)).items for minutes in (21, 26)]
    assert "c" not in [item.concept_id for item in plans[0]]
    assert [(item.concept_id, item.kind) for item in plans[1]] == [("a", "new"), ("b", "new"), ("a", "review"), ("c", "new")]


def test_what_a_day_is_too_short_for_is_begun_and_goes_on_the_day_after() -> None:
    nodes = [ConceptNode("a", 2, (), 8), ConceptNode("b", 1, ("a",), 8)]
    items = make_plan(nodes, {}, request((5,) * 7, exam_in=5)).items
    new = [i for i in items if i.kind is Kind.NEW]
    assert [(i.concept_id, i.reason.split(":")[0]) for i in new] == [("a", "new"), ("a", "continue"), ("b", "new"), ("b", "continue")]
    assert [i.day - MONDAY for i in new] == [timedelta(days=n) for n in range(4)]
    assert new[0].minutes == new[2].minutes == 5
    assert [i.reason.endswith("; goes on another day") for i in new] == [True, False, True, False]


def test_nothing_is_begun_for_less_than_two_answers_unless_the_whole_day_is_no_longer() -> None:
    nodes = [ConceptNode("a", 2), ConceptNode("b", 1)]
    assert [i.minutes for i in make_plan(nodes, {}, request((9,) * 7, horizon=1)).items if i.concept_id == "b"] == []
    assert [i.minutes for i in make_plan(nodes, {}, request((10,) * 7, horizon=1)).items if i.concept_id == "b"] == [4]
    assert [i.minutes for i in make_plan(nodes, {}, request((3,) * 7, horizon=1)).items] == [3]


def test_minutes_that_nothing_else_needs_go_to_the_new_concepts() -> None:
    nodes = [ConceptNode("a", 2), ConceptNode("b", 1)]
    assert [i.minutes for i in make_plan(nodes, {}, request((17,) * 7, horizon=1)).items] == [8, 8]
    assert [i.minutes for i in make_plan(nodes, {}, request((300,) * 7, horizon=1)).items] == [18, 18]


def test_the_day_before_an_exam_that_is_too_close_for_anything_gives_what_there_is_a_chance() -> None:
    (item,) = make_plan([ConceptNode("a", 1), ConceptNode("b", 2)], {}, request((5,) * 7, exam_in=1)).items
    assert (item.concept_id, item.minutes, item.reason) == ("b", 5, "new: 66.7 % of the exam")


def test_without_recaps_new_concepts_follow_each_other() -> None:
    plan = make_plan([ConceptNode(c, 1, (), 8) for c in "abc"], {}, request((24,) * 7, horizon=1, recaps=False))
    assert [(item.concept_id, item.kind) for item in plan.items] == [("a", "new"), ("b", "new"), ("c", "new")]


def test_a_concept_begun_takes_the_minutes_of_the_right_answers_still_missing() -> None:
    nodes = [ConceptNode("a", 1, (), 9)]
    minutes = [best_steps(nodes, {"a": StudyState(streak, 0.0, MONDAY_MS)}, request())[0].minutes for streak in (0, 1, 2)]
    assert minutes == [9, 6, 3]


def test_a_day_is_cut_into_sittings_of_like_length() -> None:
    items = make_plan([ConceptNode(c, 1, (), 8) for c in "abcd"], {}, request((34,) * 7, horizon=1)).items
    assert [(item.minutes, item.block) for item in items] == [(8, 0), (8, 0), (2, 0), (8, 1), (8, 1)]


def test_a_review_is_worth_less_once_what_waited_on_it_is_planned() -> None:
    nodes = [ConceptNode("a", 1), ConceptNode("b", 0.9), ConceptNode("waiting", 50, ("b",))]
    states = {"a": learnt(9), "b": learnt(9)}
    assert [s.concept_id for s in best_steps(nodes, states, request())] == ["waiting", "b", "a"]
    items = make_plan(nodes, states, request((8,) * 7, horizon=1)).items
    assert {item.concept_id for item in items} == {"waiting", "a"}


def test_a_review_that_is_not_due_only_fills_what_time_is_left() -> None:
    nodes = [ConceptNode("heavy", 90), ConceptNode("light", 0.001)]
    states = {"heavy": learnt(1)}
    assert [s.concept_id for s in best_steps(nodes, states, request())] == ["light", "heavy"]
    assert [s.concept_id for s in best_steps(nodes, states, request(exam_in=2))] == ["heavy", "light"]
    assert [i.concept_id for i in make_plan(nodes, states, request((8,) * 7, horizon=1)).items] == ["heavy", "light"]


@pytest.mark.parametrize("out_of_play", ["excluded", "learnt"])
def test_opening_what_is_excluded_or_already_learnt_is_worth_nothing(out_of_play: str) -> None:
    nodes = [ConceptNode("key", 0.1), ConceptNode("lone", 0.2), ConceptNode("x", 5, ("key",)), ConceptNode("y", 5, ("x",))]
    excluded = frozenset("x") if out_of_play == "excluded" else frozenset()
    states = {} if excluded else {"x": learnt(0), "y": learnt(0)}
    assert order_of(make_plan(nodes, states, request(excluded=excluded)))[0] == "lone"


def test_ties_are_broken_by_id() -> None:
    assert order_of(make_plan([ConceptNode(c, 1) for c in "dbca"], {}, request())) == ["a", "b", "c", "d"]


def test_ties_are_broken_by_the_order_of_teaching_before_ids() -> None:
    assert order_of(make_plan([ConceptNode(c, 1, position=n) for n, c in enumerate("dbca")], {}, request())) == list("dbca")


def test_without_prerequisites_what_is_worth_alike_comes_as_it_is_taught_if_there_is_time_for_all() -> None:
    nodes = [ConceptNode(c, weight, position=n) for n, (c, weight) in enumerate([("a", 0.9), ("b", 1.3), ("c", 9), ("d", 1.2)])]
    assert order_of(make_plan(nodes, {}, request((45,) * 7))) == ["c", "b", "d", "a"]
    like = [ConceptNode(c, weight, position=n) for n, (c, weight) in enumerate([("a", 5), ("b", 7), ("c", 6)])]
    assert order_of(make_plan(like, {}, request((45,) * 7))) == ["a", "b", "c"]
    assert order_of(make_plan(like, {}, request((7,) * 7, exam_in=3)))[0] == "b"
    assert order_of(make_plan([*like, ConceptNode("x", 0, ("a",))], {}, request((45,) * 7)))[0] == "b"


def test_a_syllabus_without_weights_is_planned_with_equal_ones() -> None:
    plan = make_plan([ConceptNode("a", 0), ConceptNode("b", 0)], {}, request())
    assert order_of(plan) == ["a", "b"]
    assert plan.forecast.learnt_share == pytest.approx(1)


def test_what_was_learnt_long_ago_is_reviewed_before_what_is_fresh() -> None:
    nodes = [ConceptNode("fresh", 1), ConceptNode("old", 1)]
    steps = best_steps(nodes, {"fresh": learnt(0.5), "old": learnt(9)}, request())
    assert [(s.concept_id, s.reason) for s in steps] == [("old", "review: 9 days ago"), ("fresh", "review: yesterday")]


def test_a_learnt_concept_that_others_wait_on_is_reviewed_first() -> None:
    nodes = [ConceptNode("a", 1), ConceptNode("b", 1), ConceptNode("waiting", 5, ("b",))]
    steps = best_steps(nodes, {"a": learnt(9), "b": learnt(9)}, request())
    assert [s.concept_id for s in steps if s.kind is Kind.REVIEW] == ["b", "a"]


def test_the_last_days_tilt_to_review() -> None:
    nodes = [ConceptNode(f"c{n:02}", 1) for n in range(60)]
    days = list(by_day(make_plan(nodes, {f"c{n:02}": learnt(10, 8) for n in range(30)}, request(exam_in=12)).items).values())
    share = [sum(i.kind is Kind.REVIEW for i in items) / len(items) for items in (days[1], days[-1])]
    assert share[1] > share[0]


def test_the_students_clock_decides_what_was_yesterday() -> None:
    states = {"a": StudyState(3, 3.0, MONDAY_MS - DAY_MS - 3_600_000)}  # 23:00 UTC on Saturday
    reasons = [best_steps([ConceptNode("a", 1)], states, request(utc_offset_ms=h * 3_600_000))[0].reason for h in (0, 8)]
    assert reasons == ["review: 2 days ago", "review: yesterday"]


def test_reasons_say_what_a_new_concept_is_good_for_and_that_a_begun_one_goes_on() -> None:
    nodes = [ConceptNode("a", 3), ConceptNode("b", 1, ("a",))]
    assert best_steps(nodes, {}, request())[0].reason == "new: 75.0 % of the exam, opens 1 more"
    assert best_steps(nodes, {"a": StudyState(2, 0.0, MONDAY_MS)}, request())[0].reason == "continue: 75.0 % of the exam, opens 1 more"


def test_only_days_after_the_first_are_marked_as_forecast() -> None:
    plan = make_plan([ConceptNode(f"c{n}", 1) for n in range(9)], {}, request())
    assert {item.day > MONDAY for item in plan.items} == {True, False}
    assert all(item.forecast == (item.day > MONDAY) for item in plan.items)


def test_when_time_is_short_the_forecast_says_what_is_left_out() -> None:
    nodes = [ConceptNode("a", 1), ConceptNode("b", 3), ConceptNode("c", 6)]
    forecast = make_plan(nodes, {}, request((6,) + (0,) * 6, exam_in=7)).forecast
    assert (forecast.minutes_planned, forecast.left_out) == (6, ("b", "a"))
    assert forecast.learnt_share == pytest.approx(0.6)
    assert forecast.recall_share == pytest.approx(0.6 / sqrt(1 + 0.2346 * 7 / 3))
    assert forecast.summary == "6 minutes a day reach about 48 %; left out: 2"


def test_an_excluded_concept_is_neither_planned_nor_counted_and_holds_back_what_needs_it() -> None:
    plan = make_plan(chain("a", "b", "c"), {}, request(excluded=frozenset("b")))
    assert order_of(plan) == ["a"]
    assert plan.forecast.left_out == ("c",)
    assert plan.forecast.learnt_share == pytest.approx(0.5)


def test_an_exam_in_the_past_counts_as_none_and_one_today_leaves_nothing_to_plan() -> None:
    nodes = chain("a", "b")
    over, none = (make_plan(nodes, {}, request(exam_in=days)) for days in (-1, None))
    assert over.items == none.items
    said = "; the exam of 2025-03-02 is over"
    assert over.forecast == replace(none.forecast, summary=none.forecast.summary + said)
    assert make_plan(nodes, {}, request(exam_in=0)).items == ()


def test_a_request_and_a_syllabus_that_cannot_be_are_refused_with_all_problems() -> None:
    with pytest.raises(InvalidInput) as refused:
        PlanRequest(MONDAY, None, (45,) * 6, HORIZON_DAYS_MAX + 1)
    assert [p.path for p in refused.value.problems] == ["$.minutes_by_weekday", "$.horizon_days"]
    with pytest.raises(InvalidInput) as refused:
        make_plan([ConceptNode("a", -1), ConceptNode("a", float("nan"), (), 0)], {}, request())
    paths = ["$.concepts[0].weight", "$.concepts[1].weight", "$.concepts[1].minutes_to_learn", "$.concepts[1].id"]
    assert [p.path for p in refused.value.problems] == paths


def answers(*given_: tuple[float, bool]) -> list[FoldedAttempt]:
    return [FoldedAttempt(f"a{n}", MONDAY_MS + int(day * DAY_MS), "d", f"q{n}", ("c",), right) for n, (day, right) in enumerate(given_)]


def test_three_right_in_a_row_make_a_concept_learnt_and_a_wrong_one_starts_again() -> None:
    assert not study_states(answers((0, True), (0, True), (0, False), (0, True), (0, True)))["c"].learnt
    assert study_states(answers((0, False), (0, True), (0, True), (1, True)))["c"] == StudyState(3, 3.0, MONDAY_MS + DAY_MS)


def test_stability_grows_with_a_late_right_answer_and_shrinks_with_a_wrong_one() -> None:
    right = [(0.0, True)] * 3
    grown = 3 * (1 + 2.5 * (1 - 1 / sqrt(1 + 0.2346 * 6 / 3)))
    assert study_states(answers(*right, (6, True)))["c"].stability_days == pytest.approx(grown)
    assert study_states(answers(*right, (0, True)))["c"].stability_days == 3
    assert study_states(answers(*right, (6, False)))["c"] == StudyState(0, 3 * 0.6, MONDAY_MS + 6 * DAY_MS)
    assert study_states(answers(*right, *[(6, False)] * 9))["c"].stability_days == 1
    assert recall(3, 3) == pytest.approx(0.9, abs=0.0005)


@FEW_EXAMPLES
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 5.0]), st.booleans()), max_size=12), st.randoms(use_true_random=False))
def test_study_states_do_not_depend_on_arrival_order(given_: list[tuple[float, bool]], shuffler: random.Random) -> None:
    attempts = answers(*given_)
    arrived = attempts + attempts[:2]
    shuffler.shuffle(arrived)
    assert study_states(arrived) == study_states(attempts)
