"""What changed between a plan and the one made after it, and why, in words for the student."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from domain.learning.plan import NEEDED_FOR_PIN, PINNED, Kind, Plan, PlanItem, PlanRequest
from domain.learning.recall import StudyState


class What(StrEnum):
    """What became of an item."""

    ADDED = "added"
    DROPPED = "dropped"
    EARLIER = "earlier"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class PlanChange:
    """One concept that is studied on another day than planned before. `was` is None for what was not planned, `now` for what no longer is."""

    concept_id: str
    kind: Kind
    what: What
    was: date | None
    now: date | None
    why: str


@dataclass(frozen=True, slots=True)
class Basis:
    """What the older plan was made for, as far as a newer one may differ by it: the exam that was to come, and in `excluded` what was left out."""

    exam_on: date | None
    minutes_by_weekday: tuple[int, ...]
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Since:
    """What happened since the older plan: the request behind the newer one, the states that it was made from, and the concepts answered about.

    `basis` is what the older plan was made for, None if that is not known; `excluded_by_you` the concepts that the student wants left out.
    """

    request: PlanRequest
    states: Mapping[str, StudyState]
    answered: Collection[str]
    basis: Basis | None = None
    excluded_by_you: frozenset[str] = frozenset()


def plan_changes(before: Sequence[PlanItem], after: Plan, since: Since) -> list[PlanChange]:
    """The changes by concept, the new plan's first day first; what stays on its day is not named.

    Of each concept the next item counts, old items of days gone by included. Items behind the end of the shorter plan are no change: it did
    not reach so far.
    """
    old, new = _next_items(before), _next_items(after.items)
    reach = min(max((item.day for item in items), default=since.request.today) for items in (before, after.items))
    why = _why_all_changed(since)
    changes = []
    for concept, kind in sorted(old.keys() | new.keys()):
        was, now = old.get((concept, kind)), new.get((concept, kind))
        if not _moved(was, now, reach):
            continue
        one = _Moved(concept, was, now, after, since)
        was_on, now_on = was.day if was else None, now.day if now else None
        changes.append(PlanChange(concept, kind, _what(was_on, now_on), was_on, now_on, one.why_itself() or why or one.why_beside_others()))
    return sorted(changes, key=lambda change: (change.now is None, change.now or date.min, change.concept_id, change.kind))


def _next_items(items: Sequence[PlanItem]) -> dict[tuple[str, Kind], PlanItem]:
    first: dict[tuple[str, Kind], PlanItem] = {}
    for item in items:
        key = item.concept_id, item.kind
        if key not in first or item.day < first[key].day:
            first[key] = item
    return first


def _moved(was: PlanItem | None, now: PlanItem | None, reach: date) -> bool:
    if was is None:
        return now is not None and now.day <= reach
    return was.day <= reach and (now is None or now.day != was.day)


def _what(was: date | None, now: date | None) -> What:
    if was is None:
        return What.ADDED
    if now is None:
        return What.DROPPED
    return What.EARLIER if now < was else What.LATER


def _why_all_changed(since: Since) -> str | None:
    """What changed about the whole plan, if anything did."""
    basis, exam = since.basis, since.request.coming_exam
    if basis is None:
        return None
    if exam != basis.exam_on:
        return f"the exam is on {exam.isoformat()} now" if exam else _why_no_exam(basis.exam_on, since.request.exam_on)
    before, now = sum(basis.minutes_by_weekday), sum(since.request.minutes_by_weekday)
    if before != now:
        return f"you have {now} minutes a week now, not {before}"
    return "your minutes are on other days of the week now" if basis.minutes_by_weekday != since.request.minutes_by_weekday else None


def _why_no_exam(before: date | None, now: date | None) -> str:
    return f"the exam of {before.isoformat()} is over" if before is not None and before == now else "there is no exam date any more"


@dataclass(frozen=True, slots=True)
class _Moved:
    """One concept on another day than before. The first reason that holds is given, the plainest first."""

    concept: str
    was: PlanItem | None
    now: PlanItem | None
    after: Plan
    since: Since

    def why_itself(self) -> str | None:
        """What somebody said about it or did with it, or about its day."""
        return self._why_left_out() or self._why_pinned() or self._why_answered() or self._why_its_day()

    def _why_left_out(self) -> str | None:
        request, basis = self.since.request, self.since.basis
        if self.concept in request.excluded:
            return "left out by you" if self.concept in self.since.excluded_by_you else "left out by your teacher"
        if self.concept in self.after.blocked:
            return "needs something that is left out"
        return "no longer left out" if basis and self.was is None and self.concept in basis.excluded else None

    def _why_pinned(self) -> str | None:
        pin = next((pin for pin in self.since.request.pinned if pin.concept_id == self.concept), None)
        if self.now is not None and pin:
            return f"pinned by {pin.by}"
        if self.now is not None and self.now.reason.startswith(NEEDED_FOR_PIN):
            return self.now.reason.split(";")[0]
        was_pinned = self.was is not None and self.was.reason.startswith(PINNED) and self.concept not in self.since.answered
        return "no longer pinned" if was_pinned and not pin else None

    def _why_answered(self) -> str | None:
        if self.concept not in self.since.answered:
            return None
        state = self.since.states.get(self.concept, StudyState())
        if self.now is None:
            return self._why_no_longer_needed(state)
        if not state.learnt:
            return "begun, not learnt yet"
        return "answered rightly since" if state.right_streak else "answered wrongly since"

    def _why_no_longer_needed(self, state: StudyState) -> str | None:
        """What answers did about an item that is dropped. That a new concept was begun is no reason to drop it."""
        if self.was is not None and self.was.kind is Kind.NEW:
            return "learnt since" if state.learnt else None
        if not state.learnt:
            return "begun, not learnt yet"
        return "answered rightly since" if state.right_streak else None

    def _why_its_day(self) -> str | None:
        was, request = self.was.day if self.was else None, self.since.request
        if was is None:
            return None
        if was < request.today:
            return f"not done on {was.isoformat()}"
        if was in request.days_off:
            return f"{was.isoformat()} is a day off"
        if request.postponed.get(self.concept, was) > was:
            return "put off by you"
        return "part of today's time is used already" if was == request.today and request.minutes_used else None

    def why_beside_others(self) -> str:
        """Nothing happened to it: others come before it, or no longer do."""
        if self.now is None and self.concept in self.after.forecast.left_out:
            return "no longer fits before the exam" if self.since.request.coming_exam else "no longer fits"
        return "something else gains more by now" if self.was is not None else "gains more than what was planned"
