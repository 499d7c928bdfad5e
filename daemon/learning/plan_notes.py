"""What is stored beside a plan: what was wished, what changed since the plan before, and what could not be respected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from daemon.learning.plan_inputs import Wish
from domain.learning.plan_changes import PlanChange
from domain.learning.planner import Forecast, IgnoredPrerequisite

# Concepts that a stored forecast names as left out, the most valuable first; changes and ignored prerequisites that are kept. The columns hold no more
# (domain/registry.py).
LEFT_OUT_MAX = 50
CHANGES_MAX, IGNORED_MAX = 60, 40


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
    """The column `notes`. Days off and exclusions are those of the wish; `changes_count` counts those that were left out here, too."""

    days_off: list[str] = []
    excluded: list[str] = []
    changes: list[Change] = []
    changes_count: int = 0
    ignored: list[Ignored] = []
    ignored_count: int = 0

    def wish(self, horizon_days: int) -> Wish:
        """The wish behind the plan, for the next day's."""
        return Wish(horizon_days, frozenset(map(date.fromisoformat, self.days_off)), frozenset(self.excluded))


def notes_of(wish: Wish, changes: Sequence[PlanChange], ignored: Sequence[IgnoredPrerequisite]) -> dict[str, Any]:
    """The notes as they are stored."""
    notes = Notes(
        sorted(day.isoformat() for day in wish.days_off),
        sorted(wish.excluded),
        [Change(c.concept_id, c.kind.value, c.what.value, _iso(c.was), _iso(c.now), c.why) for c in changes[:CHANGES_MAX]],
        len(changes),
        [Ignored(i.concept_id, i.prerequisite_id, i.why) for i in ignored[:IGNORED_MAX]],
        len(ignored),
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
