"""Logs of attempts drawn at random: habits of practice as public logs describe theirs, crossed with several laws by which answers come about.

A habit (this module) says who meets which question when, in the light of earlier answers; skills, attempts a student and the share of right answers follow what is published
of the log that it is named after, made smaller. A law (benchmarks/answer_laws.py) says how likely a right answer is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from math import log

from benchmarks.answer_laws import Item, Law, World
from benchmarks.attempt_log import Log
from domain.learning.attempts import FoldedAttempt

DAY_S = 86_400
# Items in the order of a student's practice; sent whether the last answer was right.
Course = Generator[Item, bool | None, None]
# Attempts on which the share of right answers is felt for, and how often.
_FELT_ATTEMPTS, _FELT_TIMES = 1_000, 3


@dataclass(frozen=True, slots=True)
class Habit:
    """How a log comes about: `spread` is the standard deviation of items around their skills (log odds), `skills_an_item` the shares of items with 1, 2 … skills,
    `attempts_spread` the standard deviation of ln(attempts a student)."""

    share_right: float
    skills: int
    items_a_skill: int
    students: int
    attempts_median: int
    attempts_spread: float
    spread: float
    skills_an_item: tuple[float, ...]
    timed: bool
    course: Callable[[World, random.Random], Course]


def until_three(world: World, dice: random.Random) -> Course:
    """A skill at a time, until three answers in a row are right."""
    while True:
        items = world.of_skill[dice.choice(world.skills)]
        row = 0
        for _ in range(dice.randint(5, 15)):
            right = yield dice.choice(items)
            row = row + 1 if right else 0
            if row == 3:
                break


def in_lessons(world: World, dice: random.Random) -> Course:
    """Through the skills in order, the one before mixed in."""
    start = dice.randrange(10)
    for place in range(start, start + len(world.skills)):
        here, before = (world.of_skill[world.skills[n % len(world.skills)]] for n in (place, place - 1))
        near = [*here, *before]
        yield from (item for item in dice.sample(near, min(len(near), dice.randint(4, 14))))


def each_once(world: World, dice: random.Random) -> Course:
    """Any question, none twice."""
    yield from (item for item in dice.sample(world.items, len(world.items)))


def words_again(world: World, dice: random.Random) -> Course:
    """Words begin in order and come back after growing gaps; sooner when they were wrong."""
    due: list[tuple[int, int, float]] = []
    now = begun = 0
    while True:
        now += 1
        due.sort()
        if due and (due[0][0] <= now or begun == len(world.items)):
            _, word, gap = due.pop(0)
        else:
            word, gap, begun = begun, 8.0, begun + 1
        gap = gap * 2.2 if (yield world.items[word]) else 6.0
        due.append((now + int(gap * dice.uniform(0.7, 1.4)), word, gap))


# After ASSISTments 2009–10 and 2015, Algebra I 2005–06 (KDD Cup 2010), EdNet, Junyi Academy, and the Spanish vocabulary of Lindsey et al.
HABITS = {
    "skill builders": Habit(0.66, 124, 20, 420, 25, 1.1, 0.7, (0.8, 0.15, 0.05), False, until_three),
    "skills without items": Habit(0.73, 100, 1, 600, 25, 0.7, 0.0, (1.0,), False, until_three),
    "steps": Habit(0.755, 112, 60, 40, 450, 0.5, 1.2, (0.6, 0.2, 0.15, 0.05), True, in_lessons),
    "single questions": Habit(0.68, 188, 20, 200, 70, 0.9, 0.9, (0.4, 0.3, 0.2, 0.1), True, each_once),
    "exercises": Habit(0.83, 300, 1, 200, 70, 0.9, 0.0, (1.0,), True, until_three),
    "vocabulary": Habit(0.75, 180, 2, 8, 2_200, 0.3, 0.5, (1.0,), False, words_again),
}


def drawn_log(habit: Habit, law: type[Law], seed: int, students: float = 1.0) -> Log:
    """Student to attempts in order. `students` is the part of the habit's that is drawn, two at least."""
    wanted = shift = log(habit.share_right / (1 - habit.share_right))
    for _ in range(_FELT_TIMES):
        answers = [a.correct for a in islice(_attempts(habit, law, seed, shift), _FELT_ATTEMPTS)]
        found = (sum(answers) + 1) / (len(answers) + 2)
        shift += wanted - log(found / (1 - found))
    last = max(round(habit.students * students), 2)
    drawn: Log = {}
    for attempt in _attempts(habit, law, seed, shift):
        student = attempt.attempt_id.partition("-")[0]
        if student not in drawn and len(drawn) == last:
            return drawn
        drawn.setdefault(student, []).append(attempt)
    return drawn


def _attempts(habit: Habit, law: type[Law], seed: int, shift: float) -> Iterator[FoldedAttempt]:
    """Attempts of one student after the other."""
    world = _world(habit, random.Random(seed), shift)
    for number in range(habit.students):
        dice = random.Random(f"{seed} {number}")
        student, course, times = law(world, dice), habit.course(world, dice), _times(dice)
        drawn = int(dice.lognormvariate(log(habit.attempts_median), habit.attempts_spread))
        right: bool | None = None
        for n in range(min(max(drawn, 3), 4 * habit.attempts_median)):
            try:
                item = course.send(right)
            except StopIteration:
                break
            at_ms = int(next(times) * 1000) if habit.timed else None
            right = dice.random() < student.chance(item, at_ms)
            student.learn(item, right, at_ms)
            yield FoldedAttempt(f"s{number:05}-{n:06}", at_ms, "", item.name, item.skills, right)


def _world(habit: Habit, dice: random.Random, shift: float) -> World:
    skills = [f"k{n}" for n in range(habit.skills)]
    world = World(skills, {skill: dice.gauss(0, 0.8) for skill in skills}, shift)
    for place, skill in enumerate(skills):
        for n in range(habit.items_a_skill):
            more = dice.choices(range(len(habit.skills_an_item)), habit.skills_an_item)[0]
            # Skills taught near each other are asked together.
            near = {skills[(place + dice.randint(1, 4)) % len(skills)] for _ in range(more)}
            world.add(Item(f"{skill}-{n}", (skill, *sorted(near)), dice.gauss(0, habit.spread)))
    return world


def _times(dice: random.Random) -> Iterator[float]:
    """Seconds: sittings of half an hour, days between them."""
    at_s = dice.uniform(0, 30 * DAY_S)
    while True:
        yield at_s
        at_s += dice.expovariate(1 / 40) if dice.random() > 0.03 else dice.expovariate(1 / (2 * DAY_S))
