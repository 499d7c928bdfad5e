"""Drawn logs have the habits that they are named after; on them, trying own weights costs next to nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.answer_laws import LAWS, Shipped
from benchmarks.attempt_log import Log
from benchmarks.drawn_logs import HABITS, drawn_log
from benchmarks.mastery_regret import all_at_once, losses, one_after_the_other, second_half, without_repeats

SEED = 5


def share_right(log: Log) -> float:
    answers = [a.correct for attempts in log.values() for a in attempts]
    return sum(answers) / len(answers)


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("law", LAWS)
def test_a_drawn_log_has_the_share_of_right_answers_the_times_and_the_skills_of_its_habit(habit: str, law: str) -> None:
    wanted = HABITS[habit]
    log = drawn_log(wanted, LAWS[law], SEED, 0.1)
    attempts = [a for rows in log.values() for a in rows]
    assert len(log) == max(round(0.1 * wanted.students), 2)
    assert share_right(log) == pytest.approx(wanted.share_right, abs=0.12)
    assert all((a.answered_at_ms is not None) == wanted.timed for a in attempts)
    assert max(len(set(a.concept_ids)) for a in attempts) <= len(wanted.skills_an_item)


def test_equal_seeds_draw_equal_logs() -> None:
    once, again, other = (drawn_log(HABITS["skill builders"], LAWS["drift"], seed, 0.02) for seed in (SEED, SEED, SEED + 1))
    assert once == again != other


def test_practice_follows_the_answers() -> None:
    """Until three in a row are right; and no question twice where a log has none twice."""
    builders = drawn_log(HABITS["skills without items"], LAWS["IRT"], SEED, 0.05)
    streaks = [tuple(a.correct for a in rows[n : n + 3]) for rows in builders.values() for n in range(len(rows) - 3)]
    went_on = [
        rows[n + 2].question_id == rows[n + 3].question_id
        for rows in builders.values()
        for n in range(len(rows) - 3)
        if len({a.question_id for a in rows[n : n + 3]}) == 1 and all(a.correct for a in rows[n : n + 3])
    ]
    assert (True, True, True) in streaks
    assert sum(went_on) < 0.1 * len(went_on)
    once = drawn_log(HABITS["single questions"], LAWS["IRT"], SEED, 0.05)
    assert without_repeats(once) == once


def test_arrivals_keep_each_students_order_and_every_attempt() -> None:
    log = second_half(drawn_log(HABITS["exercises"], LAWS["BKT"], SEED, 0.05))
    for arrive in (one_after_the_other, all_at_once):
        arrived: Log = {}
        for student, attempt in arrive(log):
            arrived.setdefault(student, []).append(attempt)
        assert arrived == log
    students = [student for student, _ in all_at_once(log)]
    assert sum(one != other for one, other in pairwise(students)) > 2 * len(log)


def test_trying_own_weights_costs_next_to_nothing_where_the_shipped_model_is_right_and_wins_where_they_are_not() -> None:
    right = losses(all_at_once(drawn_log(HABITS["skill builders"], Shipped, 7, 0.15)))
    assert right.weights < min(right.table, right.empty) + 0.001
    strange = losses(all_at_once(drawn_log(HABITS["exercises"], LAWS["BKT"], SEED, 0.15)))
    assert strange.weights < strange.table - 0.01
    assert strange.weights < min(strange.constant, strange.question, strange.empty)
