"""Simulated learners: what somebody really knows, which no planner sees.

Four families, so that no planner wins by sharing one formula of forgetting. A learner is practised with a concept for some minutes and
answers questions meanwhile, as many as fit; the answers are all that a planner is told. What the family calls knowing is read at the end, on
exam day. Days are counted from 0, a float says when in the day.

    power       memory decays by a power law; what rests on shaky prerequisites is learnt slowly
    steady      learnt in steps and never forgotten (as Bayesian knowledge tracing has it), with slips and lucky guesses
    fatigue     memory halves in constant time; attention falls with the minutes of a day, and so does learning
    traces      every practice leaves a trace that fades; recall depends on the sum of the traces (as in ACT-R)
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt
from typing import ClassVar

GUESS, SLIP = 0.2, 0.08


@dataclass(slots=True)
class Trait:
    """What differs between learners: how fast they learn, how long they remember, the minutes that an answer takes them."""

    learning: float
    memory: float
    minutes_an_answer: float = 2.0


def trait(dice: random.Random, speed: float = 1.0) -> Trait:
    """A learner drawn at random; one in ten learns at less than half the common speed, all of them `speed` times as fast as usual."""
    return Trait(min(0.9, speed * 0.35 * exp(dice.gauss(0, 0.6))), exp(dice.gauss(0, 0.6)))


@dataclass(slots=True)
class BaseLearner(ABC):
    """What the families share: answers as they come, learning that needs its prerequisites."""

    needs: Mapping[str, Sequence[str]]
    trait: Trait
    dice: random.Random
    guess: ClassVar[float] = GUESS
    slip: ClassVar[float] = SLIP
    tired_minutes: float = field(default=0.0, init=False)
    tired_day: int = field(default=-1, init=False)

    def practise(self, concept: str, day: float, minutes: float) -> list[bool]:
        """The answers given meanwhile, at least one."""
        if int(day) != self.tired_day:
            self.tired_day, self.tired_minutes = int(day), 0.0
        answers = []
        for _ in range(max(1, int(minutes / self.trait.minutes_an_answer))):
            answers.append(self._answer(concept, day))
            self.tired_minutes += self.trait.minutes_an_answer
        return answers

    @abstractmethod
    def recall(self, concept: str, day: float) -> float:
        """The chance to know it on `day`."""

    def _answer(self, concept: str, day: float) -> bool:
        knows = self.dice.random() < self.recall(concept, day)
        right = self.dice.random() < (1 - self.slip if knows else self.guess)
        self._study(concept, day, knows)
        return right

    @abstractmethod
    def _study(self, concept: str, day: float, knows: bool) -> None: ...

    def _readiness(self, concept: str, day: float) -> float:
        """How well its prerequisites stand: 1 for all of them, a quarter for none."""
        needs = self.needs.get(concept, ())
        return 1.0 if not needs else 0.25 + 0.75 * sum(self.recall(n, day) for n in needs) / len(needs)

    def _learns(self, concept: str, day: float, attention: float = 1.0) -> bool:
        return self.dice.random() < self.trait.learning * attention * self._readiness(concept, day)


@dataclass(slots=True)
class PowerLearner(BaseLearner):
    """Stability grows with each recall, the more the less was left of it."""

    memory: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        if concept not in self.memory:
            return 0.0
        stability, last = self.memory[concept]
        return 1 / sqrt(1 + 0.2346 * max(0.0, day - last) / stability)

    def _study(self, concept: str, day: float, knows: bool) -> None:
        if concept not in self.memory:
            if self._learns(concept, day):
                self.memory[concept] = 2.5 * self.trait.memory, day
            return
        stability, _ = self.memory[concept]
        left = self.recall(concept, day)
        stability = stability * (1 + 2.2 * (1 - left)) if knows else max(0.5, 0.6 * stability)
        self.memory[concept] = stability, day


@dataclass(slots=True)
class SteadyLearner(BaseLearner):
    """Known or not, once and for all."""

    known: set[str] = field(default_factory=set, init=False)

    def recall(self, concept: str, day: float) -> float:
        return 1.0 if concept in self.known else 0.0

    def _study(self, concept: str, day: float, knows: bool) -> None:
        if not knows and self._learns(concept, day):
            self.known.add(concept)


@dataclass(slots=True)
class FatigueLearner(BaseLearner):
    """Half-lives that grow with spaced practice; little is learnt late in a long day."""

    attention_minutes: ClassVar[float] = 40.0
    memory: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        if concept not in self.memory:
            return 0.0
        half_life, last = self.memory[concept]
        return exp(-log(2) * max(0.0, day - last) / half_life)

    def _study(self, concept: str, day: float, knows: bool) -> None:
        attention = 1 / (1 + (self.tired_minutes / self.attention_minutes) ** 2)
        if concept not in self.memory:
            if self._learns(concept, day, attention):
                self.memory[concept] = 6 * self.trait.memory, day
            return
        half_life, _ = self.memory[concept]
        forgotten = 1 - self.recall(concept, day)
        if knows:
            self.memory[concept] = half_life * (1 + 1.8 * forgotten * attention), day
        elif self.dice.random() < 0.5 * attention + 0.2:
            self.memory[concept] = max(1.0, 0.8 * half_life), day


@dataclass(slots=True)
class TraceLearner(BaseLearner):
    """Practices add up; each fades by a power of its age. A first trace must be understood to stick."""

    decay: ClassVar[float] = 0.35
    traces: dict[str, list[float]] = field(default_factory=dict, init=False)

    def recall(self, concept: str, day: float) -> float:
        traces = self.traces.get(concept)
        if not traces:
            return 0.0
        activation = log(sum((day - at + 0.05) ** -self.decay for at in traces)) + 0.5 * log(self.trait.memory)
        return 1 / (1 + exp(-(activation + 0.1) / 0.35))

    def _study(self, concept: str, day: float, knows: bool) -> None:
        traces = self.traces.get(concept)
        if traces is None:
            if self._learns(concept, day):
                self.traces[concept] = [day]
        elif not traces or day - traces[-1] > 0.2:  # massed practice is one practice
            traces.append(day)


FAMILIES: Mapping[str, type[BaseLearner]] = {
    "power": PowerLearner,
    "steady": SteadyLearner,
    "fatigue": FatigueLearner,
    "traces": TraceLearner,
}
