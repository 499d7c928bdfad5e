"""How long a student remembers and how fast an answer comes, found from the answers themselves."""

from __future__ import annotations

import random

from domain.learning.attempts import DAY_MS, FoldedAttempt, in_order
from domain.learning.memory import MEMORIES, StudyFold, student_memory
from domain.learning.pace import PACE_MAX, PACE_MIN, at_pace, pace, usual_minutes
from domain.learning.plan import ConceptNode, Kind
from domain.learning.planner import best_steps, make_plan
from domain.learning.recall import recall, stability_after_right, study_states
from tests.unit.domain.learning.test_planner import MONDAY_MS, chain, learnt, request


def reviewed(memory: float, seed: int, concepts: int = 30) -> list[FoldedAttempt]:
    """The answers of a student who remembers `memory` times as long as a common one, with reviews every few days."""
    dice, attempts = random.Random(seed), list[FoldedAttempt]()
    for c in range(concepts):
        answers = [(0.0, True)] * 3
        stability, day, last = 3 * memory, 0.0, 0.0
        for pause in (4, 10, 25, 60):
            day += pause
            recalled = dice.random() < recall(day - last, stability)
            right = dice.random() < (0.9 if recalled else 0.2)
            stability = stability_after_right(day - last, stability) if right else max(memory, 0.6 * stability)
            last = day
            answers.append((day, right))
        attempts += [
            FoldedAttempt(f"{c:03}-{n}", MONDAY_MS + int(at * DAY_MS) + c, "d", f"q{c}", (f"c{c}",), right)
            for n, (at, right) in enumerate(answers)
        ]
    return attempts


def test_a_students_memory_is_found_from_answers_after_a_pause() -> None:
    found = {memory: [student_memory(reviewed(memory, seed)) for seed in range(5)] for memory in (0.25, 1.0, 8.0)}
    assert max(found[0.25]) < min(found[8.0])
    assert all(memory in MEMORIES for row in found.values() for memory in row)
    for memory, row in found.items():
        assert memory / 2 <= sorted(row)[2] <= memory * 2


def test_a_student_of_whom_little_is_known_remembers_as_others_do() -> None:
    answers = reviewed(0.125, 1, concepts=1)
    assert student_memory([]) == student_memory(answers) == student_memory([a._replace(answered_at_ms=None) for a in answers]) == 1.0


def test_memory_does_not_depend_on_arrival_order() -> None:
    answers = reviewed(0.25, 3)
    assert student_memory(answers[::-1] + answers[:9]) == student_memory(answers)


def test_stability_is_in_proportion_to_memory() -> None:
    answers = reviewed(1.0, 2, concepts=1)[:3]
    assert study_states(answers, 4.0)["c0"].stability_days == 4 * study_states(answers)["c0"].stability_days == 12


def test_who_forgets_slowly_is_planned_new_concepts_where_others_review() -> None:
    nodes = [*chain("a", "b"), ConceptNode("new", 0.5)]
    kinds = {}
    for memory in (0.25, 16.0):
        states = {c: learnt(6, 3 * memory) for c in "ab"}
        kinds[memory] = best_steps(nodes, states, request(exam_in=8, memory=memory))[0].kind
    assert kinds == {0.25: Kind.REVIEW, 16.0: Kind.NEW}


def test_new_concepts_take_as_long_as_the_answers_of_this_student_really_do() -> None:
    assert pace(0, 0) == 1
    assert pace(180, 60) > 1 > pace(60, 60)
    assert (pace(10_000, 10), pace(1, 10_000)) == (PACE_MAX, PACE_MIN)
    nodes = [ConceptNode("a", 1), ConceptNode("b", 1, (), 20)]
    assert [n.minutes_to_learn for n in at_pace(nodes, PACE_MAX)] == [9, 30]
    assert [n.minutes_to_learn for n in at_pace(nodes, PACE_MIN)] == [4, 13]


def test_what_the_course_says_about_minutes_counts_within_the_bounds_of_a_sitting() -> None:
    assert [usual_minutes(stated) for stated in (None, 1, 12.4, 65)] == [6, 4, 12, 30]


def test_a_plan_for_tomorrows_exam_is_made_of_today_alone() -> None:
    plan = make_plan(chain("a", "b", "c"), {}, request(exam_in=1))
    assert {item.day for item in plan.items} == {request().today}


def test_kept_up_answer_by_answer_a_student_stands_where_all_answers_together_say() -> None:
    for seed in range(4):
        answers = in_order(reviewed(0.25, seed, concepts=9))
        fold = StudyFold()
        for number, answer in enumerate(answers):
            fold.observe(answer)
            if number % 9 == 0:
                study = fold.study()
                assert study.memory == student_memory(answers[: number + 1])
                assert study.states == study_states(answers[: number + 1], study.memory)
