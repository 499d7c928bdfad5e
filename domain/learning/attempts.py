"""An attempt as the decision engine sees it, and the one order in which attempts count.

Attempts are a grow-only set, keyed by id; what the engine computes from them depends on their canonical order and never on their arrival.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

DAY_MS = 24 * 60 * 60 * 1000


class QuestionRef(NamedTuple):
    """A question as the model sees it. `options` is the number of choices of a multiple choice, None when nothing can be guessed."""

    question_id: str
    concept_ids: tuple[str, ...]
    options: int | None = None


class FoldedAttempt(NamedTuple):
    """What the fold needs of one attempt. `answered_at_ms` is the corrected UTC time of the synced row; None in logs without times."""

    attempt_id: str
    answered_at_ms: int | None
    device_id: str
    question_id: str
    concept_ids: tuple[str, ...]
    correct: bool


OrderKey = tuple[bool, int, str, str]


def order_key(attempt: FoldedAttempt) -> OrderKey:
    """Canonical order: (answered_at_ms, device id, attempt id); attempts without a time come first."""
    at_ms = attempt.answered_at_ms
    return at_ms is not None, at_ms or 0, attempt.device_id, attempt.attempt_id


def in_order(attempts: Iterable[FoldedAttempt]) -> list[FoldedAttempt]:
    """Attempts given in any order, in canonical order; the same attempt given twice counts once."""
    return sorted({a.attempt_id: a for a in attempts}.values(), key=order_key)


def concept_set(concept_ids: Iterable[str]) -> tuple[str, ...]:
    """The one form of a set of concepts: sorted, each once. Sums over it then round the same everywhere."""
    return tuple(sorted(set(concept_ids)))
