"""The choice of the next question: which concept, which question, and the reason given."""

from __future__ import annotations

import random
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.learning.mastery import DAY_MS, Counts, FoldedAttempt, QuestionRef, Rates, fold, predict
from domain.learning.planner import ConceptNode, Kind, PlanItem, study_states
from domain.learning.questions import ConceptLeft, Desk, NextQuestion, next_question

FEW_EXAMPLES = settings(max_examples=60)
MIDNIGHT_MS = 1_700_000_000_000
NOW_MS = MIDNIGHT_MS + DAY_MS // 2
TODAY = date(2025, 3, 3)
NEW = PlanItem(TODAY, "c", Kind.NEW, 8, "new: 5.0 % of the exam")
REVIEW = PlanItem(TODAY, "c", Kind.REVIEW, 2, "review: 9 days ago")
NODES = {
    node.id: node for node in (ConceptNode("c", 1, ("p1", "p2")), ConceptNode("p1", 1), ConceptNode("p2", 1, ("r",)), ConceptNode("r", 1))
}
QUESTIONS = [QuestionRef(f"{c}-{n}", (c,)) for c in ("c", "p1", "p2", "r") for n in range(15)]
TABLE = Rates(by_question={"easy": Counts(95, 100), "fair": Counts(75, 100), "hard": Counts(20, 100)})

Answer = tuple[str, bool]


def answered(answers: list[Answer], from_ms: int) -> list[FoldedAttempt]:
    """One attempt a second: (question id, right), the concept being the part of the id before the dash."""
    return [
        FoldedAttempt(f"{from_ms}-{n:03}", from_ms + n * 1000, "d", q, (q.split("-")[0],), right) for n, (q, right) in enumerate(answers)
    ]


def desk(
    today: list[Answer] | None = None,
    before: list[Answer] | None = None,
    candidates: list[QuestionRef] | None = None,
    rates: Rates | None = None,
    steps: tuple[PlanItem, ...] = (),
) -> Desk:
    """A desk with answers given nine days ago and this morning."""
    earlier, recent = answered(before or [], MIDNIGHT_MS - 9 * DAY_MS), answered(today or [], MIDNIGHT_MS + 1000)
    attempts = earlier + recent
    state = fold(attempts, rates or Rates.empty())
    return Desk(NOW_MS, MIDNIGHT_MS, QUESTIONS if candidates is None else candidates, NODES, state, study_states(attempts), recent, steps)


def asked(at: Desk, item: PlanItem | None = NEW) -> NextQuestion:
    choice = next_question(at, item)
    assert isinstance(choice, NextQuestion)
    return choice


def left(at: Desk, item: PlanItem = NEW) -> ConceptLeft:
    choice = next_question(at, item)
    assert isinstance(choice, ConceptLeft)
    return choice


def trio() -> list[QuestionRef]:
    return [QuestionRef(q, ("c",)) for q in ("hard", "fair", "easy")]


@pytest.mark.parametrize(("item", "target"), [(NEW, 0.75), (REVIEW, 0.85)])
def test_the_question_whose_chance_is_nearest_the_target_is_asked(item: PlanItem, target: float) -> None:
    at = desk(before=[("c-0", True)] * 3 + [("c-0", False)], candidates=trio(), rates=TABLE)
    chances = {q.question_id: predict(at.state, q, NOW_MS) for q in trio()}
    choice = asked(at, item)
    assert choice.question_id == min(chances, key=lambda q: abs(chances[q] - target))
    assert (choice.chance, choice.concept_id, choice.reason) == (chances[choice.question_id], "c", item.reason)


def test_learning_and_review_aim_at_different_questions() -> None:
    rates = Rates(by_question={f"q{n}": Counts(n, 100) for n in range(101)})
    at = desk(before=[("c-0", True), ("c-0", False)], candidates=[QuestionRef(q, ("c",)) for q in rates.by_question], rates=rates)
    assert asked(at, NEW).chance == pytest.approx(0.75, abs=0.03)
    assert asked(at, REVIEW).chance == pytest.approx(0.85, abs=0.03)


def test_a_question_never_seen_comes_before_one_seen_and_one_of_another_day_before_one_of_today() -> None:
    candidates = [QuestionRef(f"c-{n}", ("c",)) for n in (1, 2, 3)]
    assert asked(desk(today=[("c-1", True)], before=[("c-2", True)], candidates=candidates)).question_id == "c-3"
    assert asked(desk(today=[("c-1", True)], before=[("c-2", True)], candidates=candidates[:2])).question_id == "c-2"


def test_when_all_were_seen_today_the_one_seen_longest_ago_is_asked() -> None:
    candidates = [QuestionRef(f"c-{n}", ("c",)) for n in (1, 2, 3)]
    today = [("c-2", True), ("c-3", False), ("c-1", True), ("c-2", True)]
    assert asked(desk(today=today, candidates=candidates)).question_id == "c-3"


def test_ties_are_broken_by_id() -> None:
    assert asked(desk(candidates=[QuestionRef(q, ("c",)) for q in ("b", "a", "d")])).question_id == "a"


def test_a_question_that_also_needs_a_concept_never_met_is_not_asked() -> None:
    candidates = [QuestionRef("a", ("c", "p1")), QuestionRef("b", ("c",))]
    assert asked(desk(candidates=candidates)).question_id == "b"
    assert asked(desk(before=[("p1-0", True)], candidates=candidates[:1])).question_id == "a"
    assert left(desk(candidates=candidates[:1])).reason == "no question about this concept can be asked yet"


def test_after_two_wrong_in_a_row_the_weakest_prerequisite_is_asked_about() -> None:
    before = [("p1-0", True)] * 3 + [("p2-0", False)] * 3
    assert asked(desk(today=[("c-0", False)], before=before)).concept_id == "c"
    assert asked(desk(today=[("c-0", False), ("c-1", True), ("c-2", False)], before=before)).concept_id == "c"
    choice = asked(desk(today=[("c-0", False), ("c-1", False)], before=before))
    assert choice.concept_id == "p2"
    assert choice.reason.startswith("step back")


def test_two_wrong_yesterday_do_not_step_back_today() -> None:
    assert asked(desk(before=[("c-0", False), ("c-1", False)])).concept_id == "c"


def test_one_right_answer_to_a_prerequisite_leads_back_to_the_concept_until_the_next_wrong_one() -> None:
    before = [("p1-0", True)] * 3 + [("p2-0", False)] * 3
    today = [("c-0", False), ("c-1", False), ("p2-1", True)]
    assert asked(desk(today=today, before=before)).concept_id == "c"
    assert asked(desk(today=[*today, ("c-2", False)], before=before)).concept_id == "p2"


def test_wrong_answers_to_a_prerequisite_step_further_back_and_end() -> None:
    before = [("p1-0", True)] * 3 + [("p2-0", False)] * 3
    today = [("c-0", False), ("c-1", False), ("p2-1", False), ("p2-2", False)]
    assert asked(desk(today=today, before=before)).concept_id == "r"
    assert asked(desk(today=[*today, ("r-1", True)], before=before)).concept_id == "p2"
    assert asked(desk(today=[*today, ("r-1", True), ("p2-3", False)], before=before)).concept_id == "c"


def test_prerequisites_in_a_circle_do_not_hold_the_choice_up() -> None:
    nodes = {"c": ConceptNode("c", 1, ("p1",)), "p1": ConceptNode("p1", 1, ("c",))}
    at = desk(today=[("c-0", False), ("c-1", False), ("p1-0", False), ("p1-1", False)])
    circle = Desk(at.now_ms, at.day_starts_at_ms, at.candidates, nodes, at.state, at.study, at.today)
    assert asked(circle).concept_id == "p1"


def test_a_concept_without_questions_below_it_is_asked_about_itself() -> None:
    at = desk(today=[("c-0", False), ("c-1", False)], candidates=[q for q in QUESTIONS if q.concept_ids == ("c",)])
    assert asked(at).concept_id == "c"


def test_a_new_concept_is_left_at_three_right_in_a_row_counting_other_days() -> None:
    assert asked(desk(today=[("c-2", True)], before=[("c-0", True)])).concept_id == "c"
    choice = left(desk(today=[("c-2", True)], before=[("c-0", True), ("c-1", True)]))
    assert (choice.flagged, choice.reason) == (False, "goal: 3 right in a row")


def test_a_review_counts_the_answers_of_today_only() -> None:
    before = [("c-0", True)] * 3
    assert asked(desk(before=before, today=[("c-1", True)] * 2), REVIEW).concept_id == "c"
    assert not left(desk(before=before, today=[("c-1", True)] * 3), REVIEW).flagged


def test_after_ten_answers_without_the_goal_the_concept_is_flagged_and_left_until_tomorrow() -> None:
    today = [(f"c-{n}", n % 2 == 0) for n in range(10)]
    assert asked(desk(today=today[:9])).concept_id == "c"
    assert left(desk(today=today)).flagged
    assert asked(desk(before=today)).concept_id == "c"


def test_without_a_plan_the_best_step_that_has_a_question_is_taken() -> None:
    steps = tuple(PlanItem(TODAY, c, Kind.NEW, 8, f"new: {c}") for c in ("none", "p1", "c"))
    assert asked(desk(steps=steps), None).concept_id == "p1"
    choice = asked(desk(steps=steps, today=[(f"p1-{n}", True) for n in range(3)]), None)
    assert (choice.concept_id, choice.reason) == ("c", "new: c")
    assert next_question(desk(steps=steps[:1]), None) is None


@FEW_EXAMPLES
@given(
    st.lists(st.tuples(st.sampled_from([q.question_id for q in QUESTIONS]), st.booleans()), max_size=12), st.randoms(use_true_random=False)
)
def test_the_order_of_the_candidates_does_not_change_the_choice(today: list[Answer], shuffler: random.Random) -> None:
    shuffled = shuffler.sample(QUESTIONS, len(QUESTIONS))
    assert next_question(desk(today=today, candidates=shuffled), NEW) == next_question(desk(today=today), NEW)
