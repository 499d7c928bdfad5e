"""The line protocol of the planner: every day is answered, within its minutes, with concepts that were named."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.line_protocol import listen
from benchmarks.planner_lines import Listener
from benchmarks.planner_stream import PlannerStream
from domain.learning.plan import ConceptNode

IDS = ["a", "b", "c", "d"]
CHAIN = [{"id": c, "weight": 0.25, "prerequisites": IDS[n - 1 : n] if n else []} for n, c in enumerate(IDS)]


def plans(*messages: Any) -> list[list[dict[str, Any]]]:
    lines = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    out = io.StringIO()
    listen(lines, out, Listener().answer)
    return [json.loads(line)["plan"] for line in out.getvalue().splitlines()]


def start(concepts: Any = CHAIN, exam_day: Any = 60) -> dict[str, Any]:
    return {"op": "start", "exam_day": exam_day, "concepts": concepts}


def day(number: Any, minutes: Any = 45, *attempts: tuple[str, float, int]) -> dict[str, Any]:
    return {"op": "plan", "day": number, "minutes": minutes, "attempts": [{"concept": c, "day": d, "correct": y} for c, d, y in attempts]}


def learnt(concept: str, on: int) -> list[tuple[str, float, int]]:
    return [(concept, on, 1)] * 3


def test_a_plan_follows_prerequisites_and_keeps_its_minutes() -> None:
    for minutes in (0, 5, 12, 30, 45):
        (items,) = plans(start(), day(0, minutes))
        assert sum(i["minutes"] for i in items) <= minutes
        assert [i["concept"] for i in items] == IDS[: len(items)]


def test_a_day_shorter_than_a_concept_begins_it_and_days_go_on_with_it() -> None:
    first, second = plans(start(), day(0, 5), day(1, 5, ("a", 0, 1), ("a", 0, 1)))
    assert first == [{"concept": "a", "minutes": 5}]
    assert second[0]["concept"] == "a"


def test_the_same_question_has_the_same_answer() -> None:
    days = [day(n, 20, *learnt(IDS[n], n)) for n in range(3)]
    assert plans(start(), *days, days[-1], days[-1])[-3:] == [plans(start(), *days)[-1]] * 3


def test_a_question_asked_again_word_for_word_tells_its_answers_once() -> None:
    told, again = day(2, 10, ("b", 0, 0)), day(2, 10, ("a", 0, 1), ("b", 0, 1))
    once = plans(start(), told, again, day(3, 10))
    assert plans(start(), told, again, again, again, day(3, 10))[1:] == [once[1]] * 3 + [once[2]]


def test_what_is_planned_today_and_not_done_yet_says_nothing_about_the_pace() -> None:
    """One answer to an item of eighteen minutes, asked about in the middle of it."""
    before, amid = plans(start(CHAIN[:1], 1), day(0), day(0, 45, ("a", 0, 0)))
    assert before == amid == [{"concept": "a", "minutes": 18}]


def test_concepts_worth_the_same_come_in_the_order_of_their_list() -> None:
    (items,) = plans(start([{"id": c, "weight": 0.25} for c in "dbca"]), day(0, 12))
    assert [i["concept"] for i in items] == ["d", "b"]


def test_the_days_of_the_week_that_are_used_are_learnt() -> None:
    stream = PlannerStream([ConceptNode(c, 1) for c in IDS], 60)
    for number in (0, 2, 4, 7):
        stream.plan(number, 20, ())
    week = stream._request(7, 1.0).minutes_by_weekday
    assert [week[(3 + number) % 7] for number in range(7)] == [20, 0, 20, 0, 20, 0, 0]  # 1970-01-01 was a Thursday


def test_what_was_not_learnt_goes_on_and_what_was_is_reviewed() -> None:
    first, second = plans(start(), day(0, 12), day(9, 8, *learnt("a", 0), ("b", 0, 0)))
    assert [i["concept"] for i in first] == ["a", "b"]
    assert {i["concept"] for i in second} == {"a", "b"}
    assert next(i["minutes"] for i in second if i["concept"] == "a") == 2


def test_answers_may_be_told_once_or_again_and_again() -> None:
    days: list[list[Any]] = [learnt("a", 0), [*learnt("b", 1), ("a", 1, 1)], [*learnt("c", 2), ("b", 2, 0)], [("b", 5, 1), ("b", 5, 1)]]
    told_once = [day(n + 1, 10, *attempts) for n, attempts in enumerate(days)]
    told_again = [day(n + 1, 10, *(a for attempts in days[: n + 1] for a in attempts)) for n in range(len(days))]
    assert plans(start(), *told_once, day(9, 10)) == plans(start(), *told_again, day(9, 10, *(a for d in days for a in d)))


def test_two_messages_about_one_day_add_up() -> None:
    parts = plans(start(), day(1, 10, ("a", 0, 1)), day(1, 10, ("a", 0, 0), ("a", 0, 1)), day(2, 10))
    whole = plans(start(), day(1, 10, ("a", 0, 1)), day(1, 10, ("a", 0, 1), ("a", 0, 0), ("a", 0, 1)), day(2, 10))
    assert parts[-1] == whole[-1]


def test_another_start_begins_with_another_learner() -> None:
    assert plans(start(), day(0), day(9, 45, *learnt("a", 0)), start(), day(0))[-1] == plans(start(), day(0))[0]


def test_circles_and_prerequisites_that_do_not_exist_are_survived() -> None:
    concepts = [
        {"id": "a", "weight": 1, "prerequisites": ["b"]}, {"id": "b", "weight": 1, "prerequisites": ["a", "nowhere"]}, {"id": 7, "weight": 1, "prerequisites": [7]},
    ]  # fmt: skip
    (items,) = plans(start(concepts), day(0))
    assert sorted(str(i["concept"]) for i in items) == ["7", "a", "b"]
    assert 7 in [i["concept"] for i in items]


def test_without_an_exam_and_on_the_day_before_there_is_a_plan_and_on_exam_day_there_is_none() -> None:
    assert all(plans(start(exam_day=None), day(0), start(exam_day=1), day(0), start(exam_day=5), day(9)))
    assert plans(start(exam_day=3), day(3)) == [[]]


STRANGE = [
    day(None), day(-5, 45), day(10**30), day("x", "y"), day(1, -7), day(1, 1e9), day(1.7, 12.9), {"op": "plan"}, {**day(1), "attempts": 3},
    {**day(1), "attempts": [None, {}, {"concept": ["a"]}, {"concept": "nowhere", "day": 1, "correct": 1}]},
    day(2, 45, ("a", 1e300, 1), ("a", float("nan"), 1), ("a", -4.5, 0)),
]  # fmt: skip


def test_strange_days_are_answered_and_strange_courses_taken(capsys: pytest.CaptureFixture[str]) -> None:
    concepts = [{"id": c, "weight": w} for c, w in zip(IDS, (None, -1, 1e300, "x"), strict=True)] + [None, {"id": "a"}, {"weight": 1}]
    for course in (start(), start(concepts, "soon"), start(None), start([], 10**30), {"op": "start"}):
        found = plans(course, *STRANGE)
        assert len(found) == len(STRANGE)
        assert {i["concept"] for items in found for i in items} <= {*IDS, None}
    assert plans(*STRANGE) == [[]] * len(STRANGE)
    assert plans(b"{", b"7", {"op": "what"}) == []
    assert capsys.readouterr().err.count("passed over") == 3


@given(
    st.lists(st.lists(st.sampled_from(IDS), max_size=3), min_size=4, max_size=4),
    st.lists(st.tuples(st.integers(0, 60), st.lists(st.tuples(st.sampled_from(IDS), st.booleans()), max_size=9)), max_size=12),
)
def test_no_plan_is_over_its_minutes_or_names_what_was_not_named(
    needs: list[list[str]], days: list[tuple[int, list[tuple[str, bool]]]]
) -> None:
    concepts = [{"id": c, "weight": 0.1 * n, "prerequisites": p} for n, (c, p) in enumerate(zip(IDS, needs, strict=True))]
    messages = [day(n, 10 + n, *((c, n, int(y)) for c, y in answers)) for n, answers in days]
    found = plans(start(concepts), *messages)
    assert len(found) == len(messages)
    for items, (n, _) in zip(found, days, strict=True):
        assert sum(i["minutes"] for i in items) <= 10 + n
        assert all(i["concept"] in IDS and i["minutes"] > 0 for i in items)
