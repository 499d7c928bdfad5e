"""Simulated learners by other laws than those that the planner's constants were chosen on (benchmarks/learners.py); they check, they were not tuned on.

halflife    the half-life doubles, nearly, with each spaced right answer, however late it comes (as in half-life regression)
fsrs        every concept has a difficulty of its own, for learning it and for what a recall adds (formulas and defaults of FSRS 4.5)
fragile     what rests on concepts that are forgotten is shaky itself
exposures   a concept needs one to eight answers, each its own number, before it is known at all
guesser     every third question is guessed, every fifth slip costs a known one
headstart   half of the course is known beforehand, and nobody says which half
sizes       some concepts take a third, some three times as long to learn as others
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import mean
from typing import ClassVar

from benchmarks.learners import BaseLearner, PowerLearner

# Answers sooner after the last are the same practice.
SPACED_DAYS = 0.2


@dataclass(slots=True)
class HalfLifeLearner(BaseLearner):
    """Right answers lengthen the half-life by a factor, wrong ones shorten it; the time between them counts for nothing."""

    memory: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        if concept not in self.memory:
            return 0.0
        half_life, last = self.memory[concept]
        return float(2 ** (-max(0.0, day - last) / half_life))

    def _study(self, concept: str, day: float, knows: bool) -> None:
        if concept not in self.memory:
            if self._learns(concept, day):
                self.memory[concept] = 3 * self.trait.memory, day
            return
        half_life, last = self.memory[concept]
        if day - last > SPACED_DAYS:
            half_life *= 1.9 if knows else 0.7
        self.memory[concept] = max(0.7, half_life), day


@dataclass(slots=True)
class FsrsLearner(BaseLearner):
    """Stability and difficulty by the published formulas; a second answer of the same sitting adds a third of what a spaced one does."""

    memory: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    difficulty: dict[str, float] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        if concept not in self.memory:
            return 0.0
        stability, last = self.memory[concept]
        return 1 / sqrt(1 + 19 / 81 * max(0.0, day - last) / stability)

    def _study(self, concept: str, day: float, knows: bool) -> None:
        hard = self.difficulty.setdefault(concept, min(10.0, max(1.0, self.dice.gauss(5.5, 2))))
        if concept not in self.memory:
            if self._learns(concept, day, (11 - hard) / 5.5):
                self.memory[concept] = 3.7 * self.trait.memory, day
            return
        stability, last = self.memory[concept]
        forgotten = 1 - self.recall(concept, day)
        if knows:
            spaced = 1.0 if day - last > SPACED_DAYS else 0.3
            stability *= 1 + exp(1.65) * (11 - hard) * stability**-0.137 * (exp(1.05 * forgotten) - 1) * spaced
        else:
            stability = min(stability, max(0.3, 2.1 * hard**-0.08 * ((stability + 1) ** 0.32 - 1) * exp(1.59 * forgotten)))
        self.memory[concept] = stability, day


@dataclass(slots=True)
class FragileLearner(PowerLearner):
    """To use a concept takes what it rests on, two levels deep."""

    def recall(self, concept: str, day: float) -> float:
        return self._usable(concept, day, 2)

    def _usable(self, concept: str, day: float, levels: int) -> float:
        own, needs = PowerLearner.recall(self, concept, day), self.needs.get(concept, ())
        if not own or not needs or not levels:
            return own
        return own * sqrt(mean(max(0.05, self._usable(need, day, levels - 1)) for need in needs))


@dataclass(slots=True)
class ExposuresLearner(BaseLearner):
    """Known after so many answers, then forgotten by halves."""

    exposures_max: ClassVar[int] = 8
    memory: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    still_needed: dict[str, float] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        if concept not in self.memory:
            return 0.0
        half_life, last = self.memory[concept]
        return exp(-log(2) * max(0.0, day - last) / half_life)

    def _study(self, concept: str, day: float, knows: bool) -> None:
        if concept not in self.memory:
            needed = self.still_needed.setdefault(concept, self.dice.randint(1, self.exposures_max) * 0.35 / self.trait.learning)
            self.still_needed[concept] = needed - self._readiness(concept, day)
            if self.still_needed[concept] <= 0:
                self.memory[concept] = 8 * self.trait.memory, day
            return
        half_life, _ = self.memory[concept]
        self.memory[concept] = half_life * (1 + 2 * (1 - self.recall(concept, day))) if knows else max(1.0, 0.7 * half_life), day


@dataclass(slots=True)
class Guesser(PowerLearner):
    """As `power`, but answers say less."""

    guess: ClassVar[float] = 0.33
    slip: ClassVar[float] = 0.2


@dataclass(slots=True)
class HeadstartLearner(PowerLearner):
    """As `power`, with half of the course, closed under prerequisites, learnt well some weeks ago."""

    def __post_init__(self) -> None:
        concepts = sorted(self.needs)
        while 2 * len(self.memory) < len(concepts):
            todo = [self.dice.choice(concepts)]
            while todo:
                concept = todo.pop()
                if concept in self.needs and concept not in self.memory:
                    self.memory[concept] = 60 * self.trait.memory * exp(self.dice.gauss(0, 0.5)), -20.0
                    todo += self.needs[concept]


@dataclass(slots=True)
class SizesLearner(PowerLearner):
    """As `power`, but concepts are small and large."""

    sizes: dict[str, float] = field(default_factory=dict, init=False)

    def _learns(self, concept: str, day: float, attention: float = 1.0) -> bool:
        size = self.sizes.setdefault(concept, exp(self.dice.gauss(0, 1)))
        missed = 1 - min(0.99, self.trait.learning * attention * self._readiness(concept, day))
        return self.dice.random() < 1 - exp(log(missed) / size)


MORE_FAMILIES: Mapping[str, type[BaseLearner]] = {
    "halflife": HalfLifeLearner,
    "fsrs": FsrsLearner,
    "fragile": FragileLearner,
    "exposures": ExposuresLearner,
    "guesser": Guesser,
    "headstart": HeadstartLearner,
    "sizes": SizesLearner,
}
