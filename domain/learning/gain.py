"""What a minute spent on a concept adds to the exam, for one student, today or on a later day of a plan.

**Review** of a learnt concept: (its share of the exam + a part of what waits on it) × (recall on exam day if reviewed today − if not) / minutes.

**New** concept: the richest goal that it leads to, itself among them. A goal is worth the share of the exam of all that must still be learnt to have it,
per minute that learning it takes, as long as there is time for it before the exam; what is learnt long before is worth less, as far as
reviews will not keep it.

Forgetting is that of domain/learning/recall.py. The constants were chosen on simulated learners (docs/decisions-engine.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import ceil, frexp

from domain.learning.attempts import DAY_MS
from domain.learning.plan import REVIEW_MINUTES, ConceptNode, Kind, PlanItem, PlanRequest, check_concepts, day_number
from domain.learning.prerequisites import IgnoredPrerequisite, without_circles
from domain.learning.recall import LEARNT_STREAK, STABILITY_LEARNT_DAYS, StudyState, recall, stability_after_right

WAITING_SHARE = 0.3  # of the weight of the unlearnt concepts that wait on a learnt one
KEPT_SHARE = 0.5  # of a new concept's value, what later reviews keep however far the exam is
# A review is due from here down: sooner it strengthens little. In the last days before the exam all are.
DUE_RECALL, LAST_DAYS = 0.85, 3
GAIN_DECIMALS = 12  # a difference below this is a tie
# What the plan before had for a day stays, unless something else gains so many times as much a minute.
KEEP_MARGIN = 2.0
# Learning all that is missing takes at most this share of the minutes before the exam: the rest is for reviews.
ROOMY_SHARE = 0.5

# What steps are ranked by: reviews that are not due come last, then minus the gain a minute (with the margin of what is kept), then the order of
# teaching, then the concept.
Rank = tuple[bool, float, int, str]


@dataclass(slots=True)
class Course:
    """The syllabus as one student stands in it; studying rolls it on.

    `learnt`: concept to (stability in days, last answer's day). `missing`: concept to what must be learnt to have it, itself last; nothing for what an
    exclusion blocks. `worth`: share of the exam a minute, by the richest goal. `begun`: minutes planned of a concept that the day was too short for.
    `blocked`: what needs an excluded concept.
    """

    request: PlanRequest
    nodes: dict[str, ConceptNode]
    states: Mapping[str, StudyState]
    needs: dict[str, list[str]]
    ignored: tuple[IgnoredPrerequisite, ...]
    opens: dict[str, list[str]] = field(default_factory=dict)
    share: dict[str, float] = field(default_factory=dict)
    learnt: dict[str, tuple[float, float]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    worth: dict[str, float] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()

    @classmethod
    def of(cls, concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> Course:
        """Raises InvalidInput for a syllabus that cannot be."""
        check_concepts(concepts)
        nodes = {node.id: node for node in sorted(concepts, key=lambda node: node.id)}
        needs, ignored = without_circles({concept: node.prerequisites for concept, node in nodes.items()})
        course = cls(request, nodes, states, needs, ignored, {concept: [] for concept in nodes})
        for concept, needed in needs.items():
            for prerequisite in needed:
                course.opens[prerequisite].append(concept)
        course._note_learnt()
        course._share_out()
        course._find_missing()
        return course

    def _note_learnt(self) -> None:
        for concept, state in self.states.items():
            if state.learnt and concept in self.nodes:
                last_ms = state.last_answered_at_ms
                last = day_number(self.request.today) if last_ms is None else (last_ms + self.request.utc_offset_ms) / DAY_MS
                self.learnt[concept] = state.stability_days, last

    def _share_out(self) -> None:
        counted = {c: node.weight for c, node in self.nodes.items() if c not in self.request.excluded}
        total = sum(counted.values())
        self.share = {c: (counted[c] / total if total else 1 / len(counted)) if c in counted else 0.0 for c in self.nodes}

    def _find_missing(self) -> None:
        blocked = set(self.request.excluded - self.learnt.keys())
        for concept, needed in self.needs.items():  # each after those that it needs
            if concept in self.learnt:
                continue
            if concept in blocked or not blocked.isdisjoint(needed):
                blocked.add(concept)
                continue
            before: dict[str, None] = {}
            for path in sorted((self.missing.get(p, []) for p in needed), key=len, reverse=True):
                if path and path[-1] not in before:  # else the whole path is in it
                    before |= dict.fromkeys(path)
            self.missing[concept] = [*before, concept]
        self.blocked = frozenset(blocked - self.request.excluded)

    def begin_day(self, minutes_left: int) -> None:
        """Work out what new concepts are worth, `minutes_left` being those until the exam, this day's included."""
        self.worth = {}
        self.missing = {c: [m for m in path if m not in self.learnt] for c, path in self.missing.items() if c not in self.learnt}
        minutes = {concept: self.minutes(concept) for concept in self.missing}
        reach = minutes_left // min(minutes.values(), default=1)
        for path in self.missing.values():
            if len(path) > reach:
                continue
            cost = sum(minutes[c] for c in path)
            if cost <= minutes_left:
                worth = sum(self.share[c] for c in path) / cost
                for concept in path:
                    if worth > self.worth.get(concept, 0.0):
                        self.worth[concept] = worth
        if not self.worth:  # too late for anything: a chance is better than none
            self.worth = {concept: self.share[concept] / minutes[concept] for concept in self.missing if self.share[concept]}
        if not any(self.needs.values()) and sum(minutes.values()) <= ROOMY_SHARE * minutes_left:
            self._follow_teaching_order()

    def _follow_teaching_order(self) -> None:
        """Where no prerequisites are stated and there is time for all, what is worth alike comes as it is taught: of those worth more than half of the
        most, then more than a quarter, and so on, the first concepts get what the most valuable were worth."""
        classes: dict[int, list[str]] = {}
        most = max(self.worth.values(), default=0.0)
        for concept, worth in self.worth.items():
            classes.setdefault(frexp(most / worth)[1], []).append(concept)
        for alike in classes.values():
            worths = sorted((self.worth[c] for c in alike), reverse=True)
            self.worth |= zip(sorted(alike, key=lambda c: (self.nodes[c].position, c)), worths, strict=True)

    def ranked(self, concepts: Iterable[str], day: date) -> list[Rank]:
        """Those that may be studied and gain something, best first."""
        today = [c for c in concepts if self.request.postponed.get(c, day) <= day]
        return sorted(rank for c in today if self.ready(c) and (rank := self.rank(c, day))[1] < 0)

    def rank(self, concept: str, day: date) -> Rank:
        kept = concept in self.request.planned_before.get(day, ())
        gain = self.gain(concept, day) * (KEEP_MARGIN if kept else 1.0)
        return self._not_due(concept, day), -gain, self.nodes[concept].position, concept

    def ready(self, concept: str) -> bool:
        """Whether it may be studied now."""
        return concept not in self.request.excluded and (concept in self.learnt or all(c in self.learnt for c in self.needs[concept]))

    def gain(self, concept: str, day: date) -> float:
        """The expected gain in the exam of a minute spent on `concept` on `day`."""
        today, goal = day_number(day), self.request.recall_on(day)
        if concept not in self.learnt:
            kept = KEPT_SHARE + (1 - KEPT_SHARE) * recall(goal - today, self._stability_learnt())
            gain = self.worth.get(concept, 0.0) * kept
        else:
            stability, last = self.learnt[concept]
            waiting = sum(self.share[d] for d in self.opens[concept] if d not in self.learnt)
            more = recall(goal - today, stability_after_right(today - last, stability)) - recall(goal - last, stability)
            gain = (self.share[concept] + WAITING_SHARE * waiting) * more / REVIEW_MINUTES
        return round(gain, GAIN_DECIMALS)

    def minutes(self, concept: str) -> int:
        """Minutes of one item: for a new concept those of the right answers still missing."""
        if concept in self.learnt:
            return REVIEW_MINUTES
        whole = self.nodes[concept].minutes_to_learn
        missing = LEARNT_STREAK - self.states.get(concept, StudyState()).right_streak
        return max(min(REVIEW_MINUTES, whole), ceil(whole * missing / LEARNT_STREAK) - self.begun.get(concept, 0))

    def item(self, day: date, concept: str) -> PlanItem:
        """The concept as an item of a plan, with its reason."""
        forecast = day > self.request.today
        if concept in self.learnt:
            ago = day_number(day) - int(self.learnt[concept][1])
            reason = f"review: {ago} days ago" if ago > 1 else "review: yesterday" if ago == 1 else "review: earlier today"
            return PlanItem(day, concept, Kind.REVIEW, REVIEW_MINUTES, reason, forecast=forecast)
        opens = sum(d not in self.learnt for d in self.opens[concept])
        streak = self.states.get(concept, StudyState()).right_streak or concept in self.begun
        reason = f"{'continue' if streak else 'new'}: {100 * self.share[concept]:.1f} % of the exam"
        reason += f", opens {opens} more" if opens else ""
        return PlanItem(day, concept, Kind.NEW, self.minutes(concept), reason, forecast=forecast)

    def study(self, concept: str, day: date) -> list[str]:
        """Note the answers expected from an item done on `day`; returns the concepts that may have become ready."""
        today, known = day_number(day), self.learnt.get(concept)
        if known is None:
            self.learnt[concept] = self._stability_learnt(), today
            return [d for d in self.opens[concept] if d not in self.learnt]
        stability, last = known
        self.learnt[concept] = stability_after_right(today - last, stability), today
        return []

    def begin(self, concept: str, minutes: int) -> None:
        """Note that an item of so many minutes was planned that is too short to learn the concept."""
        self.begun[concept] = self.begun.get(concept, 0) + minutes

    def path_to(self, goal: str) -> list[str]:
        """What must be learnt before `goal`, in order, and `goal` itself, be it learnt or not. Nothing if an exclusion is in the way."""
        if goal in self.learnt:
            return [] if goal in self.request.excluded else [goal]
        return [c for c in self.missing.get(goal, ()) if c not in self.learnt]

    def _not_due(self, concept: str, day: date) -> bool:
        if concept not in self.learnt:
            return False
        stability, last = self.learnt[concept]
        today = day_number(day)
        return recall(today - last, stability) > DUE_RECALL and self.request.recall_on(day) - today > LAST_DAYS

    def _stability_learnt(self) -> float:
        return STABILITY_LEARNT_DAYS * self.request.memory
