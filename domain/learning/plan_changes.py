"""What changed between a plan and the one made after it, and why, in words for the student."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from domain.learning.plan import Kind, Plan, PlanItem, PlanRequest
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
class Since:
    """What happened since the older plan: the request behind the newer one, the states that it was made from, and the concepts answered about."""

    request: PlanRequest
    states: Mapping[str, StudyState]
    answered: Collection[str]


def plan_changes(before: Sequence[PlanItem], after: Plan, since: Since) -> list[PlanChange]:
    """The changes by concept, the new plan's first day first; what stays on its day is not named.

    Of each concept the next item counts, old items of days gone by included. Items behind the end of the shorter plan are no change: it did
    not reach so far.
    """
    old, new = _next_days(before), _next_days(after.items)
    reach = min(max((item.day for item in items), default=since.request.today) for items in (before, after.items))
    changes = []
    for concept, kind in sorted(old.keys() | new.keys()):
        was, now = old.get((concept, kind)), new.get((concept, kind))
        if was == now or (was or reach) > reach or (was is None and now is not None and now > reach):
            continue
        why = _why(concept, was, now, after, since)
        changes.append(PlanChange(concept, kind, _what(was, now), was, now, why))
    return sorted(changes, key=lambda change: (change.now is None, change.now or date.min, change.concept_id, change.kind))


def _next_days(items: Sequence[PlanItem]) -> dict[tuple[str, Kind], date]:
    days: dict[tuple[str, Kind], date] = {}
    for item in items:
        key = item.concept_id, item.kind
        days[key] = min(item.day, days.get(key, item.day))
    return days


def _what(was: date | None, now: date | None) -> What:
    if was is None:
        return What.ADDED
    if now is None:
        return What.DROPPED
    return What.EARLIER if now < was else What.LATER


def _why(concept: str, was: date | None, now: date | None, after: Plan, since: Since) -> str:
    """The first reason that holds, the plainest first."""
    state = since.states.get(concept, StudyState())
    if concept in since.request.excluded:
        return "left out by your teacher"
    if now is not None and (by := next((pin.by for pin in since.request.pinned if pin.concept_id == concept), None)):
        return f"pinned by {by}"
    if concept in since.answered:
        if state.learnt:
            return "answered rightly since" if state.right_streak else "answered wrongly since"
        return "begun, not learnt yet"
    if was is not None and was < since.request.today:
        return f"not done on {was.isoformat()}"
    if was in since.request.days_off:
        return f"{was} is a day off"
    if now is None and concept in after.forecast.left_out:
        return "no longer fits before the exam" if since.request.coming_exam else "no longer fits"
    return "something else gains more by now" if was is not None else "gains more than what was planned"
