"""Why this number: what each part of a student's history adds to a score, in percentage points.

It begins with what the model expects of a student of whom nothing is known, and adds one part after the other, always in the same order. The steps
add up to the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domain.learning.attempts import DAY_MS
from domain.learning.features import Features, StudentState, Weights, concept_features
from domain.learning.odds import sigmoid

SHARE_DECIMALS = 4


class Part(StrEnum):
    """What a score is made of, in the order in which the parts are added."""

    ANSWERS = "answers"  # the student's answers about this concept
    OVERALL = "overall"  # how the student does with everything
    TIME = "time"  # forgetting since


# The features of each part; `constant` and `skill` are the start, and those of a question play no part in a score.
_FEATURES = {
    Part.ANSWERS: ("fresh", "recent", "short", "good", "bad"),
    Part.OVERALL: ("rate", "lasting", "form"),
    Part.TIME: ("gap", "pause"),
}


@dataclass(frozen=True, slots=True)
class Share:
    """What one part adds to the chance (0.07: seven points), and why, in words."""

    part: Part
    added: float
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart: `start` is what is expected of a student of whom nothing is known, and `start` and all shares add up to `score`."""

    start: float
    shares: tuple[Share, ...]
    score: float


def explain_score(state: StudentState, concept_id: str, at_ms: int | None) -> Explanation:
    """Why `mastery.score` is what it is."""
    reasons = {
        Part.ANSWERS: _answers_reason(state, concept_id),
        Part.OVERALL: _overall_reason(state),
        Part.TIME: _time_reason(state, concept_id, at_ms),
    }
    unknown = concept_features(StudentState(state.rates, state.weights), concept_id, at_ms)
    return _explained(state.weights, unknown, concept_features(state, concept_id, at_ms), reasons)


def _explained(weights: Weights, start: Features, end: Features, reasons: dict[Part, str]) -> Explanation:
    """From one row of features to the other, part by part. Each step is rounded from the running score, so that rounding adds nothing."""
    z = sum(weight * value for weight, value in zip(weights, start, strict=True))
    moved = {name: weight * (new - old) for name, weight, new, old in zip(Weights._fields, weights, end, start, strict=True)}
    first = here = round(sigmoid(z), SHARE_DECIMALS)
    shares = []
    for part, reason in reasons.items():
        z += sum(moved[name] for name in _FEATURES[part])
        there = round(sigmoid(z), SHARE_DECIMALS)
        shares.append(Share(part, round(there - here, SHARE_DECIMALS), reason))
        here = there
    return Explanation(first, tuple(shares), here)


def _answers_reason(state: StudentState, concept_id: str) -> str:
    known = state.concepts.get(concept_id)
    if known is None:
        return "no answer yet"
    return f"{known.answers} answer{'s' if known.answers > 1 else ''}, {known.right} right"


def _overall_reason(state: StudentState) -> str:
    if not state.answers:
        return "no answer to anything yet"
    return f"{100 * state.recent_right / state.recent_answers:.0f} % right lately, over all concepts"


def _time_reason(state: StudentState, concept_id: str, at_ms: int | None) -> str:
    known = state.concepts.get(concept_id)
    if known is None:
        return "never met"
    if known.last_at_ms is None or at_ms is None:
        return "not known when last met"
    days = max(0, at_ms - known.last_at_ms) // DAY_MS
    return "met within a day" if days == 0 else f"last met {days} day{'s' if days > 1 else ''} ago"
