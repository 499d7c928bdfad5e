"""`python -m benchmarks.mastery_report LOG.csv.gz`: the mastery model on a public log of attempts, beside the models that it is held against.

Cold: nothing is known beforehand, all students answer one after the other. Folds: five, by student; fitted on four, asked about the fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import process_time

import click

from benchmarks.attempt_log import Log, read_log
from benchmarks.foretelling import Foretold, quality
from benchmarks.mastery_baselines import Baseline, KnowledgeTracing, MeanOfAll, MeanOfQuestion, PerformanceFactors
from benchmarks.mastery_stream import MasteryStream
from domain.learning.attempts import FoldedAttempt, QuestionRef
from domain.learning.mastery import fold
from domain.learning.rates import Rates

FOLDS = 5
FOLDED_ATTEMPTS, COST_RUNS = 10_000, 5

Model = Callable[[Log, Log], list[Foretold]]


def folds_of(log: Log) -> list[tuple[Log, Log]]:
    """(students to fit on, students to ask about), five times; with fewer students, as often as there are students."""
    students = sorted(log)
    parts = [set(students[n :: min(FOLDS, len(students))]) for n in range(min(FOLDS, len(students)))]
    return [({s: log[s] for s in students if s not in part}, {s: log[s] for s in sorted(part)}) for part in parts]


def streamed(stream: MasteryStream, log: Log) -> list[Foretold]:
    """What a stream foretells, student by student."""
    foretold = []
    for student in sorted(log):
        for order, attempt in enumerate(log[student]):
            question = QuestionRef(attempt.question_id, attempt.concept_ids)
            foretold.append(Foretold(stream.predict(student, question, attempt.answered_at_ms), attempt.correct))
            stream.observe(student, order, question, attempt.answered_at_ms, attempt.correct)
    return foretold


def engine(*, refits: bool, counts: bool) -> Model:
    """The engine, prepared with the log to fit on if there is one."""

    def foretell(fitted: Log, asked: Log) -> list[Foretold]:
        stream = MasteryStream(refits=refits, counts=counts)
        if fitted:
            stream.prepare(fitted)
        return streamed(stream, asked)

    return foretell


def baseline(kind: Callable[[], Baseline]) -> Model:
    def foretell(fitted: Log, asked: Log) -> list[Foretold]:
        model = kind()
        model.fit(fitted)
        return [Foretold(p, a.correct) for _, rows in sorted(asked.items()) for p, a in zip(model.foretell(rows), rows, strict=True)]

    return foretell


COLD: dict[str, Model] = {
    "compact-lr, shipped weights, empty table": engine(refits=False, counts=False),
    "… and the school's own table": engine(refits=False, counts=True),
    "… and the school's own weights": engine(refits=True, counts=True),
}
FITTED: dict[str, Model] = {
    "mean of all": baseline(MeanOfAll),
    "mean of the question": baseline(MeanOfQuestion),
    "BKT": baseline(KnowledgeTracing),
    "PFA": baseline(PerformanceFactors),
    "compact-lr, shipped weights, table of the other students": engine(refits=False, counts=False),
    "compact-lr, own table and own weights": engine(refits=True, counts=True),
}


def fold_cost(attempts: Sequence[FoldedAttempt]) -> tuple[float, float]:
    """Seconds of processor time to fold these attempts as one student's, and to read them in a loop and do nothing: the best of `COST_RUNS`."""
    return _processor_s(lambda: fold(attempts, Rates.empty())), _processor_s(lambda: _read(attempts))


def _processor_s(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(COST_RUNS):
        started_s = process_time()
        work()
        spent.append(process_time() - started_s)
    return min(spent)


def _read(attempts: Iterable[FoldedAttempt]) -> int:
    right = 0
    for attempt in attempts:
        for _ in attempt.concept_ids:
            right += attempt.correct
    return right


@click.command()
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(log: Path) -> None:
    """Print log loss, AUC and calibration of the model and of those that it is held against, on the attempts of LOG (CSV, may be gzipped)."""
    attempts = read_log(log)
    rows = [a for student in sorted(attempts) for a in attempts[student]]
    click.echo(f"{len(rows)} attempts of {len(attempts)} students\n\n| cold | log loss | AUC | calibration error |\n|---|---|---|---|")
    for name, model in COLD.items():
        _print(name, model({}, attempts))
    click.echo("\n| five folds by student | log loss | AUC | calibration error |\n|---|---|---|---|")
    for name, model in FITTED.items():
        _print(name, [f for fitted, asked in folds_of(attempts) for f in model(fitted, asked)])
    some = rows[:FOLDED_ATTEMPTS]
    fold_s, read_s = fold_cost(some)
    click.echo(f"\nfolding {len(some)} attempts: {fold_s:.3f} s, {fold_s / read_s:.0f} × a loop that only reads them")


def _print(name: str, foretold: Sequence[Foretold]) -> None:
    found = quality(foretold)
    click.echo(f"| {name} | {found.log_loss:.4f} | {found.auc:.4f} | {found.calibration_error:.4f} |")


if __name__ == "__main__":
    main()
