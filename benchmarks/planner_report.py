"""`python -m benchmarks.planner_report`: the planner and the rules that it is held against, on simulated learners (benchmarks/learners.py).

The figure is exam-weighted recall on exam day: the mean of the learners and, in brackets, of the weakest tenth.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import mean

import click

from benchmarks.learners import FAMILIES, trait
from benchmarks.more_learners import MORE_FAMILIES
from benchmarks.planner_baselines import FringeByWeight, FringeWithReviews, MarginalGain, Planner, SyllabusOrder, WeakestFirst
from benchmarks.planner_stream import Answer, Planned, PlannerStream
from benchmarks.prerequisite_maps import drawn_map, read_map
from domain.learning.plan import ConceptNode, PlanRequest
from domain.learning.planner import make_plan

# The part of a day that has passed when studying begins, and when the exam does.
STUDY_AT, EXAM_AT = 0.7, 0.4
MINUTES_A_DAY = 24 * 60
COST_CONCEPTS, COST_DAYS = 400, 60


@dataclass(frozen=True, slots=True)
class Term:
    """The time until an exam: its minutes, on which days of the week; `missed` are days on which nothing is done."""

    name: str
    exam_day: int
    minutes: int
    weekdays: frozenset[int] = frozenset(range(7))
    missed: frozenset[int] = frozenset()

    def minutes_on(self, day: int) -> int:
        return self.minutes if day % 7 in self.weekdays and day not in self.missed else 0


ALL_FAMILIES = {**FAMILIES, **MORE_FAMILIES}
TERMS = (
    Term("14 days, 40 min", 14, 40),
    Term("60 days, 45 min", 60, 45),
    Term("60 days, five missed", 60, 45, missed=frozenset(range(25, 30))),
    Term("120 days, 20 min, 4 a week", 120, 20, frozenset({0, 2, 4, 5})),
)
SHORT_TERMS = (Term("1 day, 60 min", 1, 60), Term("2 days, 60 min", 2, 60), Term("3 days, 40 min", 3, 40))
PLANNERS: Mapping[str, Callable[[Sequence[ConceptNode], int], Planner]] = {
    "syllabus order": SyllabusOrder,
    "weakest first": WeakestFirst,
    "fringe by weight, no reviews": FringeByWeight,
    "fringe, 40 % reviews": FringeWithReviews,
    "plain marginal gain": MarginalGain,
    "Carrel": PlannerStream,
}


@dataclass(slots=True)
class Outcome:
    """Recall of each learner, and what a plan must never do, counted."""

    recalls: list[float]
    minutes_over: int = 0
    needs_broken: int = 0

    @property
    def text(self) -> str:
        """Mean and weakest tenth, and faults if there are any."""
        weakest = sorted(self.recalls)[: max(1, len(self.recalls) // 10)]
        faults = f", {self.minutes_over} over, {self.needs_broken} broken" if self.minutes_over or self.needs_broken else ""
        return f"{mean(self.recalls):.2f} ({mean(weakest):.2f}){faults}"


def live_through(
    make: Callable[[Sequence[ConceptNode], int], Planner],
    family: str,
    term: Term,
    nodes: list[ConceptNode],
    seed: str,
    speed: float = 1.0,
) -> Outcome:
    """One learner of a family, who learns `speed` times as fast as usual, with one planner, from the first day to the exam."""
    dice = random.Random(seed)
    needs = {node.id: node.prerequisites for node in nodes}
    learner = ALL_FAMILIES[family](needs, trait(dice, speed), dice)
    planner, outcome, answers = make(nodes, term.exam_day), Outcome([]), list[Answer]()
    met: set[str] = set()
    for day in range(term.exam_day):
        minutes = term.minutes_on(day)
        if not minutes:
            continue
        items = planner.plan(day, minutes, answers)
        answers, spent = [], 0
        for concept, item_minutes in items:
            outcome.needs_broken += concept not in met and not met.issuperset(needs[concept])
            met.add(concept)
            right = learner.practise(concept, day + STUDY_AT + spent / MINUTES_A_DAY, item_minutes)
            answers += [Answer(concept, day, correct) for correct in right]
            spent += item_minutes
        outcome.minutes_over += max(0, spent - minutes)
    outcome.recalls.append(sum(node.weight * learner.recall(node.id, term.exam_day + EXAM_AT) for node in nodes))
    return outcome


@dataclass(slots=True)
class WatchedPlanner:
    """Carrel's planner compared with itself: of the concepts that a plan had for the next day with time, `planned`, how many are planned then, `kept`."""

    stream: PlannerStream
    kept: int = 0
    planned: int = 0

    def plan(self, day: int, minutes: int, answers: Iterable[Answer]) -> list[Planned]:
        """The plan of a day."""
        items = self.stream.plan(day, minutes, answers)
        self.kept += len(self.stream.expected & {item.concept for item in items})
        self.planned += len(self.stream.expected)
        return items


def churn(family: str, term: Term, nodes: list[ConceptNode], seed: str, keeps: bool) -> tuple[WatchedPlanner, Outcome]:
    """One learner of a family through a term, with a planner that keeps what it planned, or does not."""
    watched = WatchedPlanner(PlannerStream(nodes, term.exam_day, keeps))
    return watched, live_through(lambda _nodes, _exam_day: watched, family, term, nodes, seed)


def plan_cost() -> float:
    """Processor seconds to plan `COST_DAYS` days of a course of `COST_CONCEPTS` concepts from nothing."""
    nodes = drawn_map(random.Random(1), COST_CONCEPTS)
    today = date(2025, 1, 1)
    request = PlanRequest(today, today + timedelta(days=COST_DAYS), (45,) * 7, COST_DAYS)
    started_s = time.process_time()
    make_plan(nodes, {}, request)
    return time.process_time() - started_s


def print_churn(learners: int, seed: int, families: Iterable[str], nodes_of: Callable[[int], list[ConceptNode]]) -> None:
    """How much of what was planned for the next day is planned otherwise when it comes, and what is recalled, with and without keeping it."""
    click.echo("\n| planned otherwise when the day comes; recall | term |" + " | ".join(families) + " |")
    for keeps in (False, True):
        for term in TERMS:
            cells = []
            for family in families:
                lives = [churn(family, term, nodes_of(n), f"{seed} {family} {term.name} churn {n}", keeps) for n in range(learners)]
                changed = 1 - sum(watched.kept for watched, _ in lives) / sum(watched.planned for watched, _ in lives)
                cells.append(f"{100 * changed:.0f} %; {Outcome([r for _, life in lives for r in life.recalls]).text}")
            click.echo(f"| {'kept' if keeps else 'made anew'} | {term.name} | {' | '.join(cells)} |")


@click.command()
@click.option("--learners", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Learners of each family in each term.")
@click.option("--concepts", type=click.IntRange(5, 400), default=120, show_default=True, help="Concepts of a course.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws other learners and courses.")
@click.option(
    "--prerequisites",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A real map (CSV: concept, prerequisite, …), of which courses are parts; without it they are drawn.",
)
@click.option("--more", is_flag=True, help="The learners of benchmarks/more_learners.py instead of those of benchmarks/learners.py.")
@click.option("--short", is_flag=True, help="Only exams one to three days away.")
@click.option(
    "--speed", type=click.FloatRange(0.05, 2), default=1.0, show_default=True, help="How many times as fast as usual learners learn."
)
@click.option("--churn-only", is_flag=True, help="Only how much plans change from day to day.")
def main(
    learners: int, concepts: int, seed: int, prerequisites: Path | None, more: bool, short: bool, speed: float, churn_only: bool
) -> None:
    """Print what simulated learners recall on exam day, by planner, family of forgetting and term."""

    def nodes_of(number: int) -> list[ConceptNode]:
        dice = random.Random(f"{seed} churn {number}")
        return drawn_map(dice, concepts) if prerequisites is None else read_map(prerequisites, dice, concepts)

    families = list(MORE_FAMILIES if more else FAMILIES)
    if churn_only:
        print_churn(learners, seed, families, nodes_of)
        return
    click.echo(f"| planner | term | {' | '.join(families)} |\n|---|---|{'---|' * len(families)}")
    for name, make in PLANNERS.items():
        for term in SHORT_TERMS if short else TERMS:
            cells = []
            for family in families:
                outcome = Outcome([])
                for number in range(learners):
                    dice = random.Random(f"{seed} {term.exam_day} {number}")
                    nodes = drawn_map(dice, concepts) if prerequisites is None else read_map(prerequisites, dice, concepts)
                    one = live_through(make, family, term, nodes, f"{seed} {family} {term.name} {number}", speed)
                    outcome.recalls += one.recalls
                    outcome.minutes_over += one.minutes_over
                    outcome.needs_broken += one.needs_broken
                cells.append(outcome.text)
            click.echo(f"| {name} | {term.name} | {' | '.join(cells)} |")
    if short:
        return
    print_churn(learners, seed, families, nodes_of)
    cost_s = min(plan_cost() for _ in range(3))
    click.echo(f"\nplanning {COST_DAYS} days of {COST_CONCEPTS} concepts: {cost_s:.2f} s of processor time")


if __name__ == "__main__":
    main()
