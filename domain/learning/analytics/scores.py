"""The scores of all concepts of a student at once, for pages that show thousands: the same numbers as `mastery.score`, to the last bit, in half the time.

What does not depend on the concept is worked out once; everything is added up in the same order. A test holds the two against each other.
"""

from __future__ import annotations

from math import log1p

from domain.learning.attempts import DAY_MS
from domain.learning.features import GAP_DAYS_MAX, LASTING_PRIOR, OVERALL_PRIOR, RECENT_PRIOR, SHORT_PRIOR, StudentState
from domain.learning.mastery import SCORE_DECIMALS
from domain.learning.odds import logit, sigmoid

# Of concepts, under one model: the expected rate, its log odds, and what the concept adds of its own.
Expected = dict[str, tuple[float, float, float]]


def scores(state: StudentState, at_ms: int, known_rates: Expected | None = None) -> dict[str, float]:
    """The score of each concept that the student has met, as of `at_ms`. `known_rates` is kept from student to student of the same model."""
    expectations: Expected = {} if known_rates is None else known_rates
    w, overall, answers = state.weights, state.rates.overall, state.answers
    rate = w.rate * (logit((state.recent_right + OVERALL_PRIOR * overall) / (state.recent_answers + OVERALL_PRIOR)) - logit(overall))
    lasting = w.lasting * (logit((state.right + LASTING_PRIOR * overall) / (answers + LASTING_PRIOR)) - logit(overall))
    found = {}
    for concept, known in state.concepts.items():
        if (expectation := expectations.get(concept)) is None:
            expectation = expectations[concept] = _expected(state, concept)
        expected, base, own = expectation
        last_ms = known.last_at_ms
        gap = 0.0
        if last_ms is not None and at_ms > last_ms:
            gap = log1p(min((at_ms - last_ms) / DAY_MS, GAP_DAYS_MAX))
        z = w.constant + w.skill * base
        z += w.recent * (logit((known.recent_right + RECENT_PRIOR * expected) / (known.evidence + RECENT_PRIOR)) - base)
        z += w.good * log1p(known.right)
        z += w.bad * log1p(known.wrong)
        z += w.gap * gap
        z += rate
        if w.pause:
            z += w.pause * log1p(answers - known.last_number)
        if w.short:
            z += w.short * (logit((known.short_right + SHORT_PRIOR * expected) / (known.short_evidence + SHORT_PRIOR)) - base)
        if lasting:
            z += lasting
        if w.parts:
            z += own
        found[concept] = round(sigmoid(z), SCORE_DECIMALS)
    return found


def _expected(state: StudentState, concept: str) -> tuple[float, float, float]:
    rates, expected = state.rates, state.rates.of_concepts((concept,))
    base = logit(expected)
    return expected, base, state.weights.parts * (logit(rates.of_concept(concept)) - base)
