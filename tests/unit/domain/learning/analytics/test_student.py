"""What is kept of one student's answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from domain.learning.analytics.heat_map import concept_cells, topic_cell
from domain.learning.analytics.scores import scores
from domain.learning.analytics.student import (
    ANSWER_CHARS_MAX,
    DAYS_MAX,
    GAP_MS_MAX,
    GREY,
    WRONG_ANSWERS_MAX,
    Answer,
    StudentFigures,
    comparable,
    take_in,
    time_on_task_ms,
)
from domain.learning.attempts import DAY_MS, FoldedAttempt
from domain.learning.features import WEIGHTS, StudentState
from domain.learning.levels import Level
from domain.learning.mastery import fold, mastery_rows, score
from domain.learning.rates import Counts, Rates


def answer(
    n: int,
    correct: bool = True,
    question: str = "q",
    concepts: Sequence[str] = ("c",),
    at_ms: int | None = None,
    given: str | None = None,
    active_ms: int | None = 1_000,
    confidence: int | None = None,
    device: str = "d",
) -> Answer:
    at_ms = n * DAY_MS if at_ms is None else at_ms
    return Answer(FoldedAttempt(f"{n:06}", at_ms, device, question, tuple(concepts), correct), given, active_ms, confidence)


def folded(answers: Sequence[Answer], rates: Rates | None = None) -> StudentFigures:
    figures = StudentFigures(StudentState(rates or Rates.empty()))
    for answer in answers:
        take_in(figures, answer)
    return figures


def random_answers(seed: int, count: int = 400) -> list[Answer]:
    dice = random.Random(seed)
    return [
        answer(
            n,
            dice.random() < 0.6,
            f"q{dice.randrange(30)}",
            dice.sample([f"c{k}" for k in range(8)], dice.choice((1, 1, 2))),
            n * 7_200_000,
        )
        for n in range(count)
    ]


def test_the_mastery_in_the_figures_is_that_of_the_fold() -> None:
    answers = random_answers(1)
    rates = Rates(0.6, {("c1",): Counts(3, 10)}, {"q2": Counts(1, 9)}, {})
    kept, alone = folded(answers, rates), fold([a.attempt for a in answers], rates)
    at_ms = 500 * 7_200_000
    assert mastery_rows(kept.state, at_ms) == mastery_rows(alone, at_ms)
    cells = concept_cells(kept.state, at_ms)
    assert [(c, x.score, x.level, x.answers) for c, x in sorted(cells.items())] == [
        (row.concept_id, row.score, row.level, row.attempts) for row in mastery_rows(alone, at_ms)
    ]


def test_scores_of_all_concepts_at_once_are_those_of_one_at_a_time() -> None:
    refitted = WEIGHTS._replace(pause=-0.11, short=0.23, again=0.3, lasting=0.31, form=0.4, parts=0.17, several=-0.2)
    table = Rates(0.6, {("c1",): Counts(3, 10), ("c1", "c2"): Counts(2, 19)}, {"q2": Counts(1, 9)}, {})
    for seed in range(20):
        figures = folded(random_answers(seed), table)
        for weights in (WEIGHTS, refitted):
            figures.state.weights = weights
            for at_ms in (0, 400 * 7_200_000, 10_000 * DAY_MS):
                assert scores(figures.state, at_ms) == {c: score(figures.state, c, at_ms) for c in figures.state.concepts}


def test_answers_since_three_right_in_a_row_and_wrong_runs_are_counted() -> None:
    figures = folded([answer(n, correct) for n, correct in enumerate([True, True, True, False, True, True, False, False])]).concepts["c"]
    assert (figures.unsettled, figures.run_wrong, figures.run_right, figures.learnt) == (5, 2, 0, True)
    assert figures.curve == "11101100"


def test_a_level_that_answers_lowered_is_remembered_until_it_is_reached_again() -> None:
    up = [answer(n) for n in range(12)]
    down = [answer(12 + n, correct=False) for n in range(3)]
    fallen = folded(up + down).concepts["c"]
    assert folded(up).concepts["c"].fell_from == GREY
    assert fallen.fell_from > fallen.shown >= 0
    assert fallen.fell_at_ms == 13 * DAY_MS  # the last answer that lowered it
    assert folded(up + down + [answer(20 + n) for n in range(20)]).concepts["c"].fell_from == GREY


def test_first_answers_stay_first_and_wrong_ones_are_counted_in_comparable_form() -> None:
    given = [("The  Answer", False, 4), ("the answer ", False, 1), ("other", False, None), ("right", True, None)]
    answers = [answer(n, correct, given=text, confidence=sure, active_ms=n + 5) for n, (text, correct, sure) in enumerate(given)]
    figures = folded(answers).questions["q"]
    assert (figures.first_right, figures.first_given, figures.first_active_ms, figures.answers, figures.right) == (
        False,
        "the answer",
        5,
        4,
        1,
    )
    assert figures.wrong == (("the answer", 2, 1), ("other", 1, 0))


def test_an_answer_that_was_let_go_of_is_none_and_one_without_a_text_is_an_empty_one() -> None:
    gone, untold, wrong = answer(0)._replace(let_go=True), answer(1), answer(2, correct=False, given="7")
    figures = [folded(answers).questions["q"] for answers in ([gone], [untold], [gone, wrong], [untold, gone])]
    assert [(f.first_given, f.kept, f.answers) for f in figures] == [(None, False, 1), ("", True, 1), (None, True, 2), ("", True, 2)]
    assert figures[2].wrong == (("7", 1, 0),)


def test_what_is_kept_is_bounded() -> None:
    answers = [answer(n, correct=False, given=f"{n} " + "x" * 500) for n in range(DAYS_MAX + 50)]
    figures = folded(answers)
    assert len(figures.days) == DAYS_MAX
    assert min(figures.days) == 50
    assert len(figures.questions["q"].wrong) == WRONG_ANSWERS_MAX
    assert all(len(wrong.given) <= ANSWER_CHARS_MAX for wrong in figures.questions["q"].wrong)
    assert len(figures.concepts["c"].curve) == len(figures.pace) == 20


def test_time_on_task_cuts_idle_gaps() -> None:
    assert time_on_task_ms(10_000, 50_000, None) == 10_000
    assert time_on_task_ms(10 * GAP_MS_MAX, 50_000, None) == GAP_MS_MAX
    assert time_on_task_ms(None, 50_000, 20_000) == 30_000
    assert time_on_task_ms(None, 50_000 + GAP_MS_MAX, 20_000) == 0
    assert time_on_task_ms(None, 50_000, None) == 0
    assert time_on_task_ms(None, 20_000, 50_000) == 0


def test_a_day_tells_time_answers_and_how_many_concepts_are_proficient_after_it() -> None:
    figures = folded([answer(n, concepts=(f"c{n % 2}",), at_ms=n * 60_000) for n in range(12)])
    (day,) = figures.days.values()
    assert (day.active_ms, day.answers, day.right) == (12_000, 12, 12)
    cells = concept_cells(figures.state, 11 * 60_000)
    assert day.proficient == sum(cell.level is Level.PROFICIENT for cell in cells.values()) == 2


def test_devices_are_kept_in_the_order_of_last_use() -> None:
    assert folded([answer(n, device=name) for n, name in enumerate("abcab")]).devices == ["c", "a", "b"]


def test_equal_answers_compare_equal_however_they_are_written() -> None:
    assert comparable("  X =\t3 ") == comparable("x = 3") == "x = 3"
    assert comparable(None) == ""


def test_a_topic_is_grey_without_evidence_and_mastered_only_when_all_of_it_is() -> None:
    cells = concept_cells(folded([answer(0, concepts=("a",)), answer(1, concepts=("b",))]).state, DAY_MS)
    assert topic_cell([]).level is Level.NOT_STARTED
    assert topic_cell(list(cells.values())).level is Level.NOT_ENOUGH_EVIDENCE
    weak = [answer(n, correct=False, concepts=("b",)) for n in range(5)]
    mixed = concept_cells(folded([*weak, *(answer(5 + n, concepts=("a",)) for n in range(40))]).state, 45 * DAY_MS)
    assert mixed["a"].level is Level.MASTERED
    assert topic_cell([mixed["a"]]).level is Level.MASTERED
    assert topic_cell(list(mixed.values())).level in (Level.ATTEMPTED, Level.FAMILIAR)
    assert topic_cell(list(mixed.values())).answers == 45
