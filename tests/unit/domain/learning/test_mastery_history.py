"""Attempts as they arrive: a late one is put in its place, and the state is always that of a fold over all."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from domain.learning.attempts import FoldedAttempt
from domain.learning.features import WEIGHTS
from domain.learning.history import StudentHistory
from domain.learning.mastery import DAY_MS, Rates, fold, mastery_rows
from tests.unit.domain.learning.test_mastery import FEW_EXAMPLES, START_MS, TABLES, attempt, histories

AT_MS = START_MS + 900 * DAY_MS


@FEW_EXAMPLES
@given(histories(), TABLES, st.randoms(use_true_random=False))
def test_attempts_added_one_by_one_in_any_order_give_the_very_state_of_a_fold(
    answers: list[FoldedAttempt], rates: Rates, shuffler: random.Random
) -> None:
    arrived = answers + answers[::3]
    shuffler.shuffle(arrived)
    history = StudentHistory(rates)
    for answer in arrived:
        history.add(answer)
    assert history.state == fold(answers, rates)
    assert mastery_rows(history.state, AT_MS) == mastery_rows(fold(answers, rates), AT_MS)


@FEW_EXAMPLES
@given(histories(), TABLES, st.integers(0, 25))
def test_two_devices_and_the_server_agree_however_attempts_are_split_between_them(
    answers: list[FoldedAttempt], rates: Rates, cut: int
) -> None:
    own, other = [a for a in answers if a.device_id == "d1"], [a for a in answers if a.device_id == "d2"]
    first, second, server = StudentHistory(rates), StudentHistory(rates), StudentHistory(rates)
    for history, pages in ((first, (own, other)), (second, (other, own)), (server, (answers[:cut], answers[cut:], own))):
        for page in pages:
            history.extend(page)
    assert first.state == second.state == server.state


def test_the_next_attempt_costs_one_step_a_late_one_those_after_it_and_a_known_one_none() -> None:
    answers = [attempt(n, START_MS + n * 1000, n % 3 > 0) for n in range(10)]
    history = StudentHistory(Rates.empty())
    late = answers.pop(6)
    assert [history.add(answer) for answer in answers] == [1] * 9
    assert history.add(late) == 4
    assert history.add(late) == 0
    assert len(history) == 10


def test_a_page_of_late_attempts_costs_one_replay_together() -> None:
    answers = [attempt(n, START_MS + n * 1000, True) for n in range(100)]
    history = StudentHistory(Rates.empty(), WEIGHTS)
    history.extend(answers[50:])
    assert history.extend(answers[:50]) == 100
    assert history.state == fold(answers, Rates.empty())


def test_a_log_that_numbers_its_attempts_is_folded_in_that_order_whatever_its_clock_says() -> None:
    answers = [attempt(n, START_MS - n * DAY_MS, n < 3) for n in range(6)]
    by_number = StudentHistory(Rates.empty(), key=lambda a: (a.attempt_id,))
    by_clock = StudentHistory(Rates.empty())
    for history in (by_number, by_clock):
        history.extend(reversed(answers))
    assert by_number.state.concepts["c1"].short_right < by_clock.state.concepts["c1"].short_right


def test_a_settled_history_goes_on_from_its_state_and_still_puts_what_is_a_little_late_in_its_place() -> None:
    answers = [attempt(n, START_MS + n * 1000, n % 3 > 0) for n in range(40)]
    history = StudentHistory(Rates.empty())
    history.extend(answers[:30])
    history.settle(8)
    assert len(history) == 8
    late = answers.pop(37)
    for answer in answers[30:]:
        history.add(answer)
    assert history.add(late) == 3
    assert history.state == fold([*answers, late], Rates.empty())
