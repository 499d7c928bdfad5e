"""Laws by which drawn students answer: four that are not the mastery model's, and the model itself, where a refit has nothing to win."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from math import exp, log1p

from domain.learning.attempts import DAY_MS, FoldedAttempt, QuestionRef, concept_set
from domain.learning.features import WEIGHTS, StudentState, question_features, shipped_chance
from domain.learning.odds import sigmoid
from domain.learning.rates import Counts, Rates


@dataclass(frozen=True, slots=True)
class Item:
    """A question, its skills, and how much harder it is than they are (log odds)."""

    name: str
    skills: tuple[str, ...]
    hardness: float


@dataclass
class World:
    """What all students of a log meet. `shift` (log odds) makes everything easier, until the log's share of right answers is what it should be."""

    skills: list[str]
    hardness: dict[str, float]
    shift: float
    items: list[Item] = field(default_factory=list)
    of_skill: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: Item) -> None:
        self.items.append(item)
        self.of_skill[item.skills[0]].append(item)

    def hardness_of(self, item: Item) -> float:
        """Mean of the item's skills."""
        return sum(self.hardness[skill] for skill in item.skills) / len(item.skills)

    @cached_property
    def rates(self) -> Rates:
        """A table that knows how hard everything is, for the law that believes in tables."""
        many = 1_000_000
        sets, questions = {}, {}
        for item in self.items:
            z = self.shift - self.hardness_of(item)
            sets[concept_set(item.skills)] = Counts(int(many * sigmoid(z)), many)
            questions[item.name] = Counts(int(many * sigmoid(z - item.hardness)), many)
        return Rates(sigmoid(self.shift), sets, questions)


class Law(ABC):
    """One student. Times in ms, None in logs without."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world, self.dice = world, dice
        self.able = dice.gauss(0, 0.8)

    @abstractmethod
    def chance(self, item: Item, at_ms: int | None) -> float:
        """Of a right answer, now."""

    @abstractmethod
    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        """From having answered."""


class ItemResponse(Law):
    """Item response theory with practice: the student's ability, the ability in the skill, hardness, ln of practice; guesses and slips."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__(world, dice)
        self._skill: dict[str, float] = defaultdict(lambda: dice.gauss(0, 0.7))
        self._met: dict[str, int] = defaultdict(int)

    def chance(self, item: Item, at_ms: int | None) -> float:
        known = sum(self._skill[k] + 0.4 * log1p(self._met[k]) for k in item.skills) / len(item.skills)
        z = known + self.able - self.world.hardness_of(item) - item.hardness
        return 0.1 + 0.85 * sigmoid(1.2 * z + self.world.shift)

    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        for skill in item.skills:
            self._met[skill] += 1


class Tracing(Law):
    """Bayesian knowledge tracing: a skill is known or not, and an item takes all of its skills. The harder the item, the more slips and the fewer guesses."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__(world, dice)
        self._known: dict[str, bool] = {}

    def chance(self, item: Item, at_ms: int | None) -> float:
        for skill in item.skills:
            if skill not in self._known:
                self._known[skill] = self.dice.random() < sigmoid(self.able + self.world.shift - self.world.hardness[skill])
        z = 2.2 if all(self._known[skill] for skill in item.skills) else -1.4
        return sigmoid(z - item.hardness + 0.3 * self.world.shift)

    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        for skill in item.skills:
            self._known[skill] = self._known[skill] or self.dice.random() < 0.12 * exp(0.4 * self.able)


class Factors(Law):
    """Performance factors: right and wrong answers count, in each skill with weights of its own."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__(world, dice)
        self._right: dict[str, int] = defaultdict(int)
        self._wrong: dict[str, int] = defaultdict(int)

    def chance(self, item: Item, at_ms: int | None) -> float:
        gained = 0.0
        for skill in item.skills:
            own = random.Random(skill)
            gained += own.uniform(0.1, 0.7) * log1p(self._right[skill]) + own.uniform(-0.4, 0.2) * log1p(self._wrong[skill])
        z = gained / len(item.skills) + 0.6 * self.able - self.world.hardness_of(item) - item.hardness
        return sigmoid(z + self.world.shift)

    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        for skill in item.skills:
            (self._right if right else self._wrong)[skill] += 1


class Drift(Law):
    """Ability drifts: up with practice, down with days and with other work in between, and by chance; each item is remembered by itself, too."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__(world, dice)
        self._skill: dict[str, float] = defaultdict(lambda: dice.gauss(0, 0.5))
        self._item: dict[str, float] = defaultdict(float)
        self._last: dict[str, tuple[int, int]] = {}
        self._answers = 0

    def chance(self, item: Item, at_ms: int | None) -> float:
        known = 0.0
        for skill in item.skills:
            then_ms, number = self._last.get(skill, (at_ms or 0, self._answers))
            away = 0.15 * log1p(((at_ms or 0) - then_ms) / DAY_MS) + 0.1 * log1p((self._answers - number) / 10)
            known += self._skill[skill] - away
        z = known / len(item.skills) + self.able + self._item[item.name] - self.world.hardness_of(item) - item.hardness
        return 0.05 + 0.92 * sigmoid(z + self.world.shift)

    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        self._answers += 1
        for skill in item.skills:
            self._skill[skill] += (0.25 if right else 0.12) * exp(-0.3 * self._skill[skill]) + self.dice.gauss(0, 0.15)
            self._last[skill] = at_ms or 0, self._answers
        self._item[item.name] += 0.3 * exp(-self._item[item.name])
        self.able += self.dice.gauss(0, 0.03)


class Shipped(Law):
    """The mastery model with the shipped weights and a table that is true."""

    def __init__(self, world: World, dice: random.Random) -> None:
        super().__init__(world, dice)
        self._state = StudentState(world.rates, WEIGHTS)

    def chance(self, item: Item, at_ms: int | None) -> float:
        return shipped_chance(question_features(self._state, QuestionRef(item.name, item.skills), at_ms))

    def learn(self, item: Item, right: bool, at_ms: int | None) -> None:
        attempt = FoldedAttempt("", at_ms, "", item.name, item.skills, right)
        self._state.count(attempt, concept_set(item.skills), self.chance(item, at_ms))


LAWS: dict[str, type[Law]] = {"IRT": ItemResponse, "BKT": Tracing, "PFA": Factors, "drift": Drift, "the model's own": Shipped}
