"""Who needs help, who is off plan, who belongs together."""

from __future__ import annotations

import pytest

from domain.learning.analytics.groups import groups
from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.needs_help import RULE_SENTENCES, Rule, guesses_share, reasons
from domain.learning.analytics.plan_standing import PlannedItem, PlanStanding, plan_standing
from domain.learning.analytics.student import StudentFigures
from domain.learning.attempts import DAY_MS
from domain.learning.features import StudentState
from domain.learning.levels import Level
from domain.learning.rates import Rates
from tests.unit.domain.learning.analytics.test_student import answer, folded

AT_EASE = PlanStanding(0, 0, 0, 0, 0, 0)


def rules(figures: StudentFigures, standing: PlanStanding = AT_EASE, learnt: float | None = None, day: int = 20) -> set[Rule]:
    return {r.rule for r in reasons(figures, {"c": "Halves"}, standing, learnt, {}, day * DAY_MS)}


def item(day: int, minutes: int = 10, status: str = "planned", kind: str = "review", made: int = 0, concept: str = "c") -> PlannedItem:
    return PlannedItem(day, minutes, status, kind, concept, made * DAY_MS)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("0000", {Rule.WRONG}),
        ("000", set()),
        ("1001001001", {Rule.STUCK}),
        ("100100100", set()),
        ("0001110010", set()),
        ("1" * 12 + "000", {Rule.FELL}),
        ("1" * 12 + "000" + "1" * 40, set()),
    ],
)
def test_rules_about_a_concept(answers: str, expected: set[Rule]) -> None:
    assert rules(folded([answer(n, a == "1") for n, a in enumerate(answers)])) == expected


def test_what_happened_long_ago_and_concepts_of_no_course_are_no_news() -> None:
    stuck = folded([answer(n, correct=False) for n in range(4)])
    assert rules(stuck, day=31) == {Rule.WRONG}
    assert rules(stuck, day=32) == set()
    assert reasons(stuck, {}, AT_EASE, None, {}, 5 * DAY_MS) == []


def test_rules_about_plan_and_pace() -> None:
    nobody = StudentFigures(StudentState(Rates.empty()))
    assert rules(nobody, PlanStanding(0, 0, 0, 0, 0, 7)) == {Rule.IDLE}
    assert rules(nobody, PlanStanding(0, 0, 0, 0, 0, 6)) == set()
    assert rules(nobody, learnt=0.59) == {Rule.FORECAST}
    assert rules(nobody, learnt=0.6) == set()
    guessing = folded([answer(n, active_ms=500 if n % 3 == 0 else 9_000) for n in range(12)])
    assert rules(guessing) == {Rule.GUESSES}
    assert set(RULE_SENTENCES) == set(Rule)


def test_a_guess_is_rapid_for_its_question() -> None:
    pace = [("q", 3_000)] * 10
    assert guesses_share(pace, {}) == 0
    assert guesses_share(pace, {"q": 40_000}) == 1
    assert guesses_share(pace[:9], {}) is None


def test_the_standing_looks_at_two_weeks_and_does_not_count_today() -> None:
    items = [item(5, 99), item(6, 10, "done"), item(10, 20, "skipped"), item(19, 40, "moved"), item(20, 50)]
    found = plan_standing(items, folded([answer(6, active_ms=120_000), answer(7, active_ms=60_000)]), 20)
    assert found == PlanStanding(
        due_minutes=70, done_minutes=10, skipped_minutes=20, spent_minutes=3, overdue_items=1, idle_planned_days=2, behind_since=19
    )
    assert found.behind_minutes == 60
    assert found.off_plan


def test_answers_do_items_without_anybody_ticking_them_off() -> None:
    figures = folded([answer(n) for n in (8, 9, 10)])
    assert plan_standing([item(9), item(10)], figures, 20).done_minutes == 20  # the last right answer came on the day or later
    assert plan_standing([item(11)], figures, 20).done_minutes == 0
    assert plan_standing([item(12, kind="new", made=5)], figures, 20).done_minutes == 10
    assert plan_standing([item(12, kind="new", made=11)], figures, 20).done_minutes == 0
    assert plan_standing([item(9, concept="other")], figures, 20).done_minutes == 0


def test_being_off_plan_takes_half_of_twenty_minutes() -> None:
    assert not PlanStanding(19, 0, 0, 0, 0, 0).off_plan
    assert PlanStanding(20, 9, 0, 0, 0, 0).off_plan
    assert not PlanStanding(20, 10, 0, 0, 0, 0).off_plan


def cell(level: Level) -> Cell:
    return Cell(level, 0.5 if level is Level.ATTEMPTED else 0.95, 5, 1)


def test_groups_share_an_unmet_prerequisite_of_what_they_work_on() -> None:
    concepts = {"base": ("b1", "b2"), "next": ("n1", "n2"), "empty": ()}
    needs = {"next": ["base", "empty"]}
    weak, strong = cell(Level.ATTEMPTED), cell(Level.MASTERED)
    students = {
        "lacks": {"n1": weak, "b1": weak},
        "never met it": {"n1": weak},
        "half is enough": {"n1": weak, "b1": strong},
        "done with it": {"n1": strong, "n2": strong},
        "not there yet": {"b1": weak},
    }
    (group,) = groups(students, concepts, needs)
    assert (group.topic_id, group.concepts, group.waiting) == ("base", 2, ("next",))
    assert [(m.student_id, m.known, m.met) for m in group.members] == [("lacks", 0, 1), ("never met it", 0, 0)]
    assert groups({"lacks": students["lacks"]}, concepts, needs) == []
