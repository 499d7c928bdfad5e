"""What the mastery model is held against: means, Bayesian knowledge tracing and performance factors, fitted on other students.

Each is made by `fit(log)` and asked by `foretell(attempts)`, which returns a chance for every attempt of one student, from those before it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Protocol

from benchmarks.attempt_log import Log
from domain.learning.attempts import FoldedAttempt
from domain.learning.difficulty import DifficultyTable
from domain.learning.odds import held, sigmoid


class Baseline(Protocol):
    """A model fitted once."""

    def fit(self, log: Log) -> None: ...

    def foretell(self, attempts: Sequence[FoldedAttempt]) -> list[float]: ...


@dataclass(slots=True)
class MeanOfAll:
    """The share of right answers, whoever answers what."""

    rate: float = 0.5

    def fit(self, log: Log) -> None:
        self.rate = DifficultyTable.of(a for attempts in log.values() for a in attempts).rates().overall

    def foretell(self, attempts: Sequence[FoldedAttempt]) -> list[float]:
        return [self.rate] * len(attempts)


@dataclass(slots=True)
class MeanOfQuestion:
    """The question's own share of right answers, shrunk towards its skill's."""

    table: DifficultyTable = field(default_factory=DifficultyTable)

    def fit(self, log: Log) -> None:
        self.table = DifficultyTable.of(a for attempts in log.values() for a in attempts)

    def foretell(self, attempts: Sequence[FoldedAttempt]) -> list[float]:
        rates = self.table.rates()
        return [rates.of_question(a.question_id, rates.of_concepts(a.concept_ids)) for a in attempts]


@dataclass(slots=True)
class _Skill:
    """One skill of Bayesian knowledge tracing: known at first, learnt at a step, right without knowing, wrong in spite of it."""

    known: float = 0.3
    learnt: float = 0.1
    guess: float = 0.25
    slip: float = 0.1

    def forward(self, answers: Sequence[bool]) -> tuple[list[float], list[float]]:
        """Before each answer: the chance that the skill is known, and that the answer is right."""
        knows, before, right = self.known, [], []
        for correct in answers:
            before.append(knows)
            p = knows * (1 - self.slip) + (1 - knows) * self.guess
            right.append(p)
            hit = knows * (1 - self.slip if correct else self.slip)
            knows = hit / (p if correct else 1 - p)
            knows += (1 - knows) * self.learnt
        return before, right


@dataclass(slots=True)
class KnowledgeTracing:
    """Bayesian knowledge tracing (Corbett and Anderson 1995), a hidden Markov model a skill, fitted by expectation maximisation.

    Sequences of a skill that no fitted student met are foretold with what fits all skills together. Attempts with several skills: the mean.
    """

    iterations: int = 20
    skills: dict[str, _Skill] = field(default_factory=dict)
    common: _Skill = field(default_factory=_Skill)

    def fit(self, log: Log) -> None:
        sequences: dict[str, list[list[bool]]] = defaultdict(list)
        for attempts in log.values():
            for skill, answers in _by_skill(attempts).items():
                sequences[skill].append([correct for _, correct in answers])
        self.common = self._fitted([row for rows in sequences.values() for row in rows], _Skill())
        self.skills = {skill: self._fitted(rows, self.common) for skill, rows in sequences.items()}

    def foretell(self, attempts: Sequence[FoldedAttempt]) -> list[float]:
        chances: list[list[float]] = [[] for _ in attempts]
        for skill, answers in _by_skill(attempts).items():
            _, right = self.skills.get(skill, self.common).forward([correct for _, correct in answers])
            for (place, _), chance in zip(answers, right, strict=True):
                chances[place].append(chance)
        return [sum(row) / len(row) if row else 0.5 for row in chances]

    def _fitted(self, rows: Sequence[Sequence[bool]], start: _Skill) -> _Skill:
        skill = start
        for _ in range(self.iterations):
            skill = _improved(skill, rows, start)
        return skill


# Imagined observations at the starting values, so that a skill of few answers stays near the common one.
_PRIOR = 4.0


def _improved(skill: _Skill, rows: Iterable[Sequence[bool]], start: _Skill) -> _Skill:
    """One step of expectation maximisation (forward, backward)."""
    known = [_PRIOR * start.known, _PRIOR]
    learnt = [_PRIOR * start.learnt, _PRIOR]
    guess = [_PRIOR * start.guess, _PRIOR]
    slip = [_PRIOR * start.slip, _PRIOR]
    for answers in rows:
        before, _ = skill.forward(answers)
        ahead = (1.0, 1.0)  # likelihood of the later answers, not knowing and knowing after this step
        for place in reversed(range(len(answers))):
            correct = answers[place]
            here = (skill.guess if correct else 1 - skill.guess, 1 - skill.slip if correct else skill.slip)
            stays, learns, knew = (
                (1 - before[place]) * here[0] * (1 - skill.learnt) * ahead[0],
                (1 - before[place]) * here[0] * skill.learnt * ahead[1],
                before[place] * here[1] * ahead[1],
            )
            total = stays + learns + knew
            knows = knew / total
            guess[0] += (1 - knows) * correct
            guess[1] += 1 - knows
            slip[0] += knows * (not correct)
            slip[1] += knows
            if place + 1 < len(answers):
                learnt[0] += learns / total
                learnt[1] += 1 - knows
            if place == 0:
                known[0] += knows
                known[1] += 1
            behind = (here[0] * ((1 - skill.learnt) * ahead[0] + skill.learnt * ahead[1]), here[1] * ahead[1])
            scale = max(behind)
            ahead = behind[0] / scale, behind[1] / scale
    return _Skill(*(held(part / whole) for part, whole in (known, learnt)), *(min(part / whole, 0.45) for part, whole in (guess, slip)))


@dataclass(slots=True)
class PerformanceFactors:
    """Performance factors analysis (Pavlik, Cen and Koedinger 2009): a logistic regression on how often a skill was answered right and wrong.

    Three weights a skill, beside three common ones for skills that no fitted student met, by gradient descent with adaptive steps (AdaGrad)
    and a little shrinkage. Steps and shrinkage were tried on the public sample, in favour of this baseline.
    """

    epochs: int = 15
    step: float = 0.05
    shrinkage: float = 0.02
    weights: dict[str, list[float]] = field(default_factory=dict)

    def fit(self, log: Log) -> None:
        rows = [row for attempts in log.values() for row in _factors(attempts)]
        seen: dict[str, list[float]] = defaultdict(lambda: [1e-6] * 3)
        self.weights = defaultdict(lambda: [0.0] * 3)
        dice = random.Random(1)
        for _ in range(self.epochs):
            dice.shuffle(rows)
            for factors, correct in rows:
                error = sigmoid(self._sum(factors)) - correct
                for skill, values in factors:
                    weights, squares = self.weights[skill], seen[skill]
                    for n, value in enumerate(values):
                        slope = error * value + self.shrinkage * weights[n]
                        squares[n] += slope * slope
                        weights[n] -= self.step * slope / sqrt(squares[n])

    def foretell(self, attempts: Sequence[FoldedAttempt]) -> list[float]:
        return [held(sigmoid(self._sum(factors))) for factors, _ in _factors(attempts)]

    def _sum(self, factors: Sequence[tuple[str, tuple[float, float, float]]]) -> float:
        none = [0.0] * 3
        return sum(w * v for skill, values in factors for w, v in zip(self.weights.get(skill, none), values, strict=True))


# Stands for all skills.
_COMMON = "\0"


def _factors(attempts: Sequence[FoldedAttempt]) -> list[tuple[list[tuple[str, tuple[float, float, float]]], bool]]:
    """For each attempt, its skills with (1, right before, wrong before), and the answer."""
    right: dict[str, int] = defaultdict(int)
    wrong: dict[str, int] = defaultdict(int)
    rows = []
    for attempt in attempts:
        factors = [(skill, (1.0, float(right[skill]), float(wrong[skill]))) for skill in attempt.concept_ids]
        rows.append((factors + [(_COMMON, values) for _, values in factors], attempt.correct))
        for skill in attempt.concept_ids:
            right[skill] += attempt.correct
            wrong[skill] += not attempt.correct
    return rows


def _by_skill(attempts: Sequence[FoldedAttempt]) -> dict[str, list[tuple[int, bool]]]:
    """Skill to (place among the student's attempts, right) in order."""
    found: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for place, attempt in enumerate(attempts):
        for skill in attempt.concept_ids:
            found[skill].append((place, attempt.correct))
    return found
