"""What has become of the items of a plan: answers speak for themselves, nobody has to tick anything off."""

from __future__ import annotations

from typing import NamedTuple

from domain.learning.plan import GOES_ON, Kind
from domain.learning.recall import StudyState


class Since(NamedTuple):
    """From when on answers count for an item, UTC ms: the plan was made at `made_at_ms`, the item's day begins at `day_starts_at_ms`."""

    made_at_ms: int
    day_starts_at_ms: int


def done_by_answers(kind: Kind, state: StudyState | None, since: Since, reason: str = "") -> bool:
    """Whether the student's answers have done an item, `state` being where they stand with its concept.

    A new concept is done when it is learnt, with an answer since the plan was made; a part of one, as its `reason` says, with any answer on the item's day or
    later. A review is done when the last answer is right and was given
    since, on the item's day or later: a review before its day would be another one.
    """
    if state is None or state.last_answered_at_ms is None:
        return False
    if kind is Kind.NEW and reason.endswith(GOES_ON) and state.last_answered_at_ms >= max(since):
        return True
    if kind is Kind.NEW:
        return state.learnt and state.last_answered_at_ms >= since.made_at_ms
    return state.right_streak > 0 and state.last_answered_at_ms >= max(since)
