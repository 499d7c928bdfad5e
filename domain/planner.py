"""The study plan: each day greedily by marginal exam gain a minute, then arranged into sittings a student can bear.

A concept's gain is the share of the exam that studying it today adds to what will be recalled on exam day. New concepts count what
they open as well, reviews what waits on them. Forgetting follows a power law whose stability grows with each well-timed right answer.
The constants are a starting point, chosen on simulated learners (docs/decisions/).

Same inputs and version, same plan: no clock, no random, ties by concept id. Of the elementary functions only `sqrt` is used, which
IEEE 754 rounds exactly, so every machine ranks alike. Inside, days are counted from 1970-01-01, and a date stands
for its midnight on the student's clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum
from math import ceil, isfinite, sqrt

from domain.errors import InvalidInput, Problem
from domain.mastery import DAY_MS, FoldedAttempt, concept_set, in_order

PLANNER_VERSION = "marginal-gain-1"

HORIZON_DAYS_MAX = 400
MINUTES_A_DAY_MAX = 24 * 60
RECALL_HORIZON_DAYS = 30  # without an exam, what is studied on a day should be recalled this long after it
LEARNT_STREAK = 3  # right answers in a row
STABILITY_LEARNT_DAYS, STABILITY_MIN_DAYS = 3.0, 1.0
STABILITY_GROWTH, STABILITY_LOSS = 2.5, 0.6
FORGETTING = 0.2346  # recall falls to 0.9 after one stability, as in FSRS
REVIEW_MINUTES, LEARN_MINUTES = 2, 8
OPENED_SHARE = 0.6  # of the value of what a concept opens
WAITING_SHARE = 0.3  # of the weight of the unlearnt concepts that wait on a learnt one
NEW_IN_A_ROW = 2
BLOCK_MINUTES_MAX = 30
GAIN_DECIMALS = 12  # a difference below this is a tie
_EPOCH = date(1970, 1, 1)


class Kind(StrEnum):
    NEW = "new"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class ConceptNode:
    """A concept of the syllabus: its weight in the exam (any unit; all zero means all equal) and what must be learnt before it."""

    id: str
    weight: float
    prerequisites: tuple[str, ...] = ()
    minutes_to_learn: int = LEARN_MINUTES


@dataclass(frozen=True, slots=True)
class StudyState:
    """Where a student stands with one concept. Stability is 0 until three right answers in a row, and never 0 again."""

    right_streak: int = 0
    stability_days: float = 0.0
    last_answered_at_ms: int | None = None

    @property
    def learnt(self) -> bool:
        return self.stability_days > 0


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to plan. `minutes_by_weekday` is Monday first; nothing is planned on `days_off`, on the exam day or after it.

    An exam before `today` counts as none. Concepts in `excluded` are neither planned nor counted. `utc_offset_ms` is what the student's
    clock is ahead of UTC. Raises InvalidInput.
    """

    today: date
    exam_on: date | None
    minutes_by_weekday: tuple[int, ...]
    horizon_days: int
    days_off: frozenset[date] = frozenset()
    excluded: frozenset[str] = frozenset()
    utc_offset_ms: int = 0

    def __post_init__(self) -> None:
        problems = []
        if len(self.minutes_by_weekday) != 7 or not all(0 <= m <= MINUTES_A_DAY_MAX for m in self.minutes_by_weekday):
            message = f"Seven numbers of minutes from 0 to {MINUTES_A_DAY_MAX} are needed, Monday first."
            problems.append(Problem("$.minutes_by_weekday", "out_of_range", message))
        if not 1 <= self.horizon_days <= HORIZON_DAYS_MAX:
            problems.append(Problem("$.horizon_days", "out_of_range", f"The horizon is 1 to {HORIZON_DAYS_MAX} days."))
        if problems:
            raise InvalidInput(problems)

    @property
    def coming_exam(self) -> date | None:
        return None if self.exam_on is None or self.exam_on < self.today else self.exam_on

    def study_days(self) -> Iterator[tuple[date, int]]:
        """The days with time to study, and their minutes."""
        exam = self.coming_exam
        length = self.horizon_days if exam is None else min(self.horizon_days, (exam - self.today).days)
        for day in (self.today + timedelta(days=n) for n in range(length)):
            minutes = self.minutes_by_weekday[day.weekday()]
            if minutes and day not in self.days_off:
                yield day, minutes

    def recall_on(self, day: date) -> int:
        """The day number on which what is studied on `day` should be recalled."""
        return _number(self.coming_exam or day + timedelta(days=RECALL_HORIZON_DAYS))


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing to do. Items of a day stand in order, `block` counts its sittings from 0, `forecast` marks days after the first."""

    day: date
    concept_id: str
    kind: Kind
    minutes: int
    reason: str
    block: int = 0
    forecast: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where the plan leads if every review ends right and every new concept is learnt. Shares are of the exam's weight.

    `learnt_share` is what is learnt by then, `recall_share` what is recalled of it on exam day, `left_out` the rest, most valuable first.
    """

    minutes_planned: int
    learnt_share: float
    recall_share: float
    left_out: tuple[str, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class IgnoredPrerequisite:
    """A prerequisite that is not respected, as it closes a circle or is not in the syllabus (`why`: `circle`, `unknown`)."""

    concept_id: str
    prerequisite_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    items: tuple[PlanItem, ...]
    forecast: Forecast
    ignored: tuple[IgnoredPrerequisite, ...]
    version: str = PLANNER_VERSION


def recall(days: float, stability_days: float) -> float:
    """The chance to recall after so many days without practice."""
    return 1 / sqrt(1 + FORGETTING * max(days, 0.0) / stability_days)


def stability_after_right(days: float, stability_days: float) -> float:
    """The stability after a right answer that many days after the last: the less was recalled, the more it grows."""
    return stability_days * (1 + STABILITY_GROWTH * (1 - recall(days, stability_days)))


def study_states(attempts: Iterable[FoldedAttempt]) -> dict[str, StudyState]:
    """Where a student stands with each concept met, from all attempts in any order."""
    states: dict[str, StudyState] = {}
    for attempt in in_order(attempts):
        for concept in concept_set(attempt.concept_ids):
            states[concept] = _after_answer(states.get(concept, StudyState()), attempt.correct, attempt.answered_at_ms)
    return states


def _after_answer(state: StudyState, correct: bool, at_ms: int | None) -> StudyState:
    streak, stability, last_ms = state.right_streak + 1 if correct else 0, state.stability_days, state.last_answered_at_ms
    if not state.learnt:
        stability = STABILITY_LEARNT_DAYS if streak >= LEARNT_STREAK else 0.0
    elif correct:
        days = 0.0 if at_ms is None or last_ms is None else (at_ms - last_ms) / DAY_MS
        stability = stability_after_right(days, stability)
    else:
        stability = max(STABILITY_MIN_DAYS, STABILITY_LOSS * stability)
    return StudyState(streak, stability, at_ms)


def make_plan(concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> Plan:
    """The plan from today to the day before the exam or the end of the horizon, whichever comes first.

    No day holds more than its minutes, and no concept comes before one that it needs. Raises InvalidInput for concepts that cannot be.
    """
    course = _Course.of(concepts, states, request)
    items: list[PlanItem] = []
    study_days = list(request.study_days())
    for day, minutes in study_days:
        items += _in_blocks(course.plan_day(day, minutes))
    return Plan(tuple(items), _forecast(course, items, len(study_days)), course.ignored)


def best_steps(concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> list[PlanItem]:
    """What would be best to do right now, without a plan, best first; minutes and days off are not asked about."""
    course = _Course.of(concepts, states, request)
    return [course.item(request.today, concept) for _, concept in course.ranked(course.nodes, request.today)]


@dataclass(slots=True)
class _Course:
    """The syllabus as one student stands in it; `plan_day` rolls it on. `learnt`: concept to (stability in days, last answer's day)."""

    request: PlanRequest
    nodes: dict[str, ConceptNode]
    states: Mapping[str, StudyState]
    needs: dict[str, list[str]]
    ignored: tuple[IgnoredPrerequisite, ...]
    opens: dict[str, list[str]] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    value: dict[str, float] = field(default_factory=dict)
    learnt: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> _Course:
        _check(concepts)
        nodes = {node.id: node for node in sorted(concepts, key=lambda node: node.id)}
        needs, ignored = _needs_without_circles(nodes)
        course = cls(request, nodes, states, needs, ignored, {concept: [] for concept in nodes})
        for concept, needed in needs.items():
            for prerequisite in needed:
                course.opens[prerequisite].append(concept)
        for concept, state in states.items():
            if state.learnt and concept in nodes:
                last_ms = state.last_answered_at_ms
                last = _number(request.today) if last_ms is None else (last_ms + request.utc_offset_ms) / DAY_MS
                course.learnt[concept] = state.stability_days, last
        course._weigh()
        return course

    def _weigh(self) -> None:
        """Shares of the exam, and the value of learning a concept: its own share and a part of what it opens."""
        counted = {c: node.weight for c, node in self.nodes.items() if c not in self.request.excluded}
        total = sum(counted.values())
        self.share = {c: (counted[c] / total if total else 1 / len(counted)) if c in counted else 0.0 for c in self.nodes}
        for concept in reversed(self.needs):  # what a concept opens comes after it
            opened = (d for d in self.opens[concept] if d not in self.learnt and d not in self.request.excluded)
            self.value[concept] = self.share[concept] + sum(OPENED_SHARE * self.value[d] / len(self.needs[d]) for d in opened)

    def ranked(self, concepts: Iterable[str], day: date) -> list[tuple[float, str]]:
        """(minus the gain a minute, concept) of those that may be studied and gain something, best first."""
        return sorted((-gain, c) for c in concepts if self.ready(c) and (gain := self.gain(c, day)) > 0)

    def ready(self, concept: str) -> bool:
        return concept not in self.request.excluded and (concept in self.learnt or all(c in self.learnt for c in self.needs[concept]))

    def gain(self, concept: str, day: date) -> float:
        """The expected gain in the exam of a minute spent on `concept` on `day`."""
        today, goal = _number(day), self.request.recall_on(day)
        if concept not in self.learnt:
            gain = self.value[concept] * recall(goal - today, STABILITY_LEARNT_DAYS) / self.nodes[concept].minutes_to_learn
        else:
            stability, last = self.learnt[concept]
            waiting = sum(self.share[d] for d in self.opens[concept] if d not in self.learnt)
            more = recall(goal - today, stability_after_right(today - last, stability)) - recall(goal - last, stability)
            gain = (self.share[concept] + WAITING_SHARE * waiting) * more / REVIEW_MINUTES
        return round(gain, GAIN_DECIMALS)

    def item(self, day: date, concept: str) -> PlanItem:
        forecast = day > self.request.today
        if concept in self.learnt:
            ago = _number(day) - int(self.learnt[concept][1])
            reason = f"review: {ago} days ago" if ago > 1 else "review: yesterday" if ago == 1 else "review: earlier today"
            return PlanItem(day, concept, Kind.REVIEW, REVIEW_MINUTES, reason, forecast=forecast)
        opens = sum(d not in self.learnt for d in self.opens[concept])
        streak = self.states.get(concept, StudyState()).right_streak
        reason = f"{'continue' if streak else 'new'}: {100 * self.share[concept]:.1f} % of the exam"
        reason += f", opens {opens} more" if opens else ""
        return PlanItem(day, concept, Kind.NEW, self.nodes[concept].minutes_to_learn, reason, forecast=forecast)

    def plan_day(self, day: date, minutes: int) -> list[PlanItem]:
        """Choose by falling gain until the minutes are used. A concept planned counts as learnt for the rest of the day.

        Gains only fall within a day, so one that fell since it was ranked is ranked again (lazy greedy).
        """
        draft, heap = _Draft(minutes), self.ranked(self.nodes, day)
        while heap and draft.minutes_left:
            ranked, concept = heapq.heappop(heap)
            if self.gain(concept, day) < -ranked:
                changed = [concept]
            elif draft.take(self.item(day, concept)):
                changed = self._study(concept, day)
            else:
                continue
            for entry in self.ranked(changed, day):
                heapq.heappush(heap, entry)
        return draft.arranged()

    def _study(self, concept: str, day: date) -> list[str]:
        """Note the answers expected from an item done on `day`; returns the concepts that may have become ready."""
        today, known = _number(day), self.learnt.get(concept)
        if known is None:
            self.learnt[concept] = STABILITY_LEARNT_DAYS, today
            return [d for d in self.opens[concept] if d not in self.learnt]
        stability, last = known
        self.learnt[concept] = stability_after_right(today - last, stability), today
        return []


@dataclass(slots=True)
class _Draft:
    """One day being filled. `recaps` are short reviews of what was just learnt, by the pair of new concepts that they come before."""

    minutes_left: int
    reviews: list[PlanItem] = field(default_factory=list)
    new: list[PlanItem] = field(default_factory=list)
    recaps: dict[int, PlanItem] = field(default_factory=dict)

    def take(self, item: PlanItem) -> bool:
        """Add the item if its minutes are left, and those of a recap where no review is at hand to part it from the new ones before."""
        pairs_before = len(self.new) // NEW_IN_A_ROW
        recap = item.kind is Kind.NEW and pairs_before > len(self.reviews) + len(self.recaps)
        minutes = item.minutes + REVIEW_MINUTES * recap
        if minutes > self.minutes_left:
            return False
        if recap:
            learnt = self.new[-NEW_IN_A_ROW]
            self.recaps[pairs_before] = replace(learnt, kind=Kind.REVIEW, minutes=REVIEW_MINUTES, reason="review: learnt earlier today")
        self.minutes_left -= minutes
        (self.new if item.kind is Kind.NEW else self.reviews).append(item)
        return True

    def arranged(self) -> list[PlanItem]:
        """Reviews first; those of least gain, and the recaps, part the new concepts so that no three follow each other."""
        partings = range(1, (len(self.new) - 1) // NEW_IN_A_ROW + 1)
        first = len(self.reviews) - sum(pair not in self.recaps for pair in partings)
        items, rest = self.reviews[:first], iter(self.reviews[first:])
        for position, item in enumerate(self.new):
            pair, inside = divmod(position, NEW_IN_A_ROW)
            if pair and not inside:
                items.append(self.recaps[pair] if pair in self.recaps else next(rest))
            items.append(item)
        return items


def _in_blocks(items: Sequence[PlanItem]) -> list[PlanItem]:
    """Cut a day into sittings of like length, none over `BLOCK_MINUTES_MAX` unless a single item is."""
    total = sum(item.minutes for item in items)
    wanted = total / max(1, ceil(total / BLOCK_MINUTES_MAX))
    block, minutes, cut = 0, 0, []
    for item in items:
        if minutes and (minutes >= wanted or minutes + item.minutes > BLOCK_MINUTES_MAX):
            block, minutes = block + 1, 0
        minutes += item.minutes
        cut.append(replace(item, block=block))
    return cut


def _forecast(course: _Course, items: Sequence[PlanItem], study_days: int) -> Forecast:
    request, minutes = course.request, sum(item.minutes for item in items)
    end = _number(request.coming_exam or request.today + timedelta(days=request.horizon_days))
    learnt = sum(course.share[c] for c in sorted(course.learnt))
    recalled = sum(course.share[c] * recall(end - last, stability) for c, (stability, last) in sorted(course.learnt.items()))
    missing = (c for c in course.nodes if c not in course.learnt and c not in request.excluded)
    left_out = tuple(sorted(missing, key=lambda c: (-round(course.value[c], GAIN_DECIMALS), c)))
    a_day = round(minutes / study_days) if study_days else 0
    summary = f"{a_day} minutes a day reach about {100 * recalled:.0f} %; " + (
        f"left out: {len(left_out)}" if left_out else "nothing is left out"
    )
    return Forecast(minutes, learnt, recalled, left_out, summary)


def _check(concepts: Sequence[ConceptNode]) -> None:
    problems, seen = [], set()
    for n, node in enumerate(concepts):
        if not (isfinite(node.weight) and node.weight >= 0):
            problems.append(Problem(f"$.concepts[{n}].weight", "out_of_range", "A weight is a number from 0 up."))
        if not 1 <= node.minutes_to_learn <= MINUTES_A_DAY_MAX:
            problems.append(Problem(f"$.concepts[{n}].minutes_to_learn", "out_of_range", f"1 to {MINUTES_A_DAY_MAX} minutes."))
        if node.id in seen:
            problems.append(Problem(f"$.concepts[{n}].id", "duplicate", "This concept is given twice."))
        seen.add(node.id)
    if problems:
        raise InvalidInput(problems)


def _needs_without_circles(nodes: Mapping[str, ConceptNode]) -> tuple[dict[str, list[str]], tuple[IgnoredPrerequisite, ...]]:
    """The prerequisites to respect, keyed in an order in which each concept comes after its own; and those to ignore.

    Depth first by id, on a stack of its own: a syllabus may be deeper than Python's recursion limit.
    """
    needs: dict[str, list[str]] = {}
    ignored: list[IgnoredPrerequisite] = []
    for root in sorted(nodes):
        path: dict[str, tuple[list[str], Iterator[str]]] = {} if root in needs else {root: _entered(nodes[root])}
        while path:
            concept, (kept, rest) = next(reversed(path.items()))
            prerequisite = next(rest, None)
            if prerequisite is None:
                needs[concept] = kept
                del path[concept]
            elif prerequisite not in nodes or prerequisite in path:
                ignored.append(IgnoredPrerequisite(concept, prerequisite, "circle" if prerequisite in path else "unknown"))
            else:
                kept.append(prerequisite)
                if prerequisite not in needs:
                    path[prerequisite] = _entered(nodes[prerequisite])
    return needs, tuple(ignored)


def _entered(node: ConceptNode) -> tuple[list[str], Iterator[str]]:
    return [], iter(concept_set(node.prerequisites))


def _number(day: date) -> int:
    return (day - _EPOCH).days
