"""`python -m benchmarks.mastery_regret`: what trying weights of a school's own wins, and what it costs where there is nothing to win.

On drawn logs (benchmarks/drawn_logs.py), and on a real one if named; cold, students one after the other and all at once. The reference is compact-lr with the
shipped weights and a table counted from the answers so far.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks.answer_laws import LAWS
from benchmarks.attempt_log import Log, read_log
from benchmarks.drawn_logs import HABITS, drawn_log
from benchmarks.mastery_stream import MasteryStream
from domain.learning.attempts import FoldedAttempt, QuestionRef, concept_set
from domain.learning.difficulty import DifficultyTable
from domain.learning.refit import log_loss

SEED = 7
# How a log's attempts arrive, and what each is told by.
Arrival = list[tuple[str, FoldedAttempt]]


def one_after_the_other(log: Log) -> Arrival:
    students = sorted(log)
    random.Random(SEED).shuffle(students)
    return [(student, attempt) for student in students for attempt in log[student]]


def all_at_once(log: Log) -> Arrival:
    """Each student's attempts in order, spread over a stretch of the common time."""
    dice = random.Random(SEED)
    timed = []
    for student in sorted(log):
        begins, ends = sorted((dice.random(), dice.random()))
        times = sorted(dice.uniform(begins, ends) for _ in log[student])
        timed += [(time, student, place) for place, time in enumerate(times)]
    return [(student, log[student][place]) for _, student, place in sorted(timed)]


def second_half(log: Log) -> Log:
    """Logs that begin in the middle."""
    return {student: attempts[len(attempts) // 2 :] for student, attempts in log.items()}


def without_repeats(log: Log) -> Log:
    """The first attempt of each student at each question."""
    return {student: list({a.question_id: a for a in reversed(attempts)}.values())[::-1] for student, attempts in log.items()}


class Losses(NamedTuple):
    """Mean log loss, cold: the best constant, the question's share so far, the shipped weights with an empty table and with one of its own, weights of its own."""

    constant: float
    question: float
    empty: float
    table: float
    weights: float


def losses(arrival: Arrival) -> Losses:
    """Of all models on the same attempts."""
    answers = [attempt.correct for _, attempt in arrival]
    share = sum(answers) / len(answers)
    constant = sum(log_loss(share, correct) for correct in answers) / len(answers)
    streams = [MasteryStream(refits=refits, counts=counts) for refits, counts in ((False, False), (False, True), (True, True))]
    return Losses(constant, _mean(_question_so_far(arrival)), *(_mean(_streamed(stream, arrival)) for stream in streams))


def _question_so_far(arrival: Arrival) -> Iterator[float]:
    table = DifficultyTable()
    for _, attempt in arrival:
        concepts, rates = concept_set(attempt.concept_ids), table.rates()
        yield log_loss(rates.of_question(attempt.question_id, rates.of_concepts(concepts)), attempt.correct)
        table.count(attempt.question_id, concepts, attempt.correct)


def _streamed(stream: MasteryStream, arrival: Arrival) -> Iterator[float]:
    orders: dict[str, Iterator[int]] = {}
    for student, attempt in arrival:
        question, order = QuestionRef(attempt.question_id, attempt.concept_ids), next(orders.setdefault(student, count()))
        yield log_loss(stream.predict(student, question, attempt.answered_at_ms), attempt.correct)
        stream.observe(student, order, question, attempt.answered_at_ms, attempt.correct)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def logs(real: Path | None, students: float) -> Iterator[tuple[str, Log]]:
    """Names and logs: the real one as it is and bent, then each habit with each law."""
    if real is not None:
        log = read_log(real)
        yield from (("real", log), ("real, second half", second_half(log)), ("real, no repeats", without_repeats(log)))
    for habit_name, habit in HABITS.items():
        for law_name, law in LAWS.items():
            yield f"{habit_name}, {law_name}", drawn_log(habit, law, SEED, students)


@click.command()
@click.option(
    "--log", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A real log (CSV, may be gzipped) beside the drawn ones."
)
@click.option(
    "--students", type=click.FloatRange(0.01, 1), default=1.0, show_default=True, help="Part of the drawn students: smaller logs."
)
def main(log: Path | None, students: float) -> None:
    """Print log losses on each log, and the worst regret."""
    click.echo(
        "| log | attempts | arrival | constant | question | shipped, empty | shipped, table | own weights |\n|---|---|---|---|---|---|---|---|"
    )
    regrets, won = [], []
    for name, drawn in logs(log, students):
        for arrival_name, arrive in (("students", one_after_the_other), ("at once", all_at_once)):
            arrival = arrive(drawn)
            found = losses(arrival)
            click.echo(f"| {name} | {len(arrival)} | {arrival_name} | " + " | ".join(f"{loss:.4f}" for loss in found) + " |")
            regrets.append((found.weights - found.table, f"{name}, {arrival_name}"))
            won.append(found.table - found.weights)
    regret, where = max(regrets)
    click.echo(f"\nwon in the middle: {sum(won) / len(won):.4f}; worst regret: {regret:.4f} ({where})")


if __name__ == "__main__":
    main()
