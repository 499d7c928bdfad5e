"""What is stored beside a plan: what was wished, what changed since the plan before, and what could not be respected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from daemon.learning.plan_inputs import Wish
from domain.learning.plan_changes import Basis, PlanChange
from domain.learning.planner import Forecast, IgnoredPrerequisite, PlanRequest

# Concepts that a stored forecast names as left out, the most valuable first; changes and ignored prerequisites that are kept. The columns hold no more
# (domain/registry.py).
LEFT_OUT_MAX = 50
CHANGES_MAX, IGNORED_MAX = 60, 40
# Excluded concepts that are noted, so that a later plan can say which came back.
LEFT_OUT_NOTED_MAX = 150


class Change(msgspec.Struct, frozen=True):
    """One concept studied on another day than planned before; `was` is None for what was not planned, `now` for what no longer is."""

    concept_id: str
    kind: str
    what: str
    was: str | None
    now: str | None
    why: str


class Ignored(msgspec.Struct, frozen=True):
    """A prerequisite that the plan does not keep: it closes a circle, or is not in the course (`why`: `circle`, `unknown`)."""

    concept_id: str
    prerequisite_id: str
    why: str


class Notes(msgspec.Struct, frozen=True):
    """The column `notes`. Days off and `excluded` are those of the wish; `changes_count` counts those that were left out here, too. `exam_on`, `minutes` (by
    weekday, Monday first) and `left_out`, all that was excluded by whomever, are what the plan was made for; without minutes nobody knows."""

    days_off: list[str] = []
    excluded: list[str] = []
    changes: list[Change] = []
    changes_count: int = 0
    ignored: list[Ignored] = []
    ignored_count: int = 0
    exam_on: str | None = None
    minutes: list[int] = []
    left_out: list[str] = []

    @property
    def basis(self) -> Basis | None:
        """What the plan was made for, to say what has changed since."""
        exam_on = date.fromisoformat(self.exam_on) if self.exam_on else None
        return Basis(exam_on, tuple(self.minutes), frozenset(self.left_out)) if self.minutes else None

    def wish(self, horizon_days: int) -> Wish:
        """The wish behind the plan, for the next day's."""
        return Wish(horizon_days, frozenset(map(date.fromisoformat, self.days_off)), frozenset(self.excluded))


def notes_of(wish: Wish, request: PlanRequest, changes: Sequence[PlanChange], ignored: Sequence[IgnoredPrerequisite]) -> dict[str, Any]:
    """The notes as they are stored."""
    notes = Notes(
        sorted(day.isoformat() for day in wish.days_off),
        sorted(wish.excluded),
        [Change(c.concept_id, c.kind.value, c.what.value, _iso(c.was), _iso(c.now), c.why) for c in changes[:CHANGES_MAX]],
        len(changes),
        [Ignored(i.concept_id, i.prerequisite_id, i.why) for i in ignored[:IGNORED_MAX]],
        len(ignored),
        _iso(request.coming_exam),
        list(request.minutes_by_weekday),
        sorted(request.excluded)[:LEFT_OUT_NOTED_MAX],
    )
    stored: dict[str, Any] = msgspec.to_builtins(notes)
    return stored


def read_notes(text: str | None) -> Notes:
    """Notes from their column; empty for a plan of another program's that says something else there."""
    try:
        return msgspec.json.decode(text, type=Notes) if text else Notes()
    except msgspec.MsgspecError:
        return Notes()


def forecast_of(forecast: Forecast) -> dict[str, object]:
    """The forecast as it is stored."""
    return {
        "minutes_planned": forecast.minutes_planned,
        "learnt_share": forecast.learnt_share,
        "recall_share": forecast.recall_share,
        "left_out": list(forecast.left_out[:LEFT_OUT_MAX]),
        "left_out_count": len(forecast.left_out),
        "summary": forecast.summary,
    }


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
