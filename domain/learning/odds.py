"""Log odds and back: the scale on which the mastery model adds things up."""

from __future__ import annotations

from math import exp, log

PROBABILITY_MIN, PROBABILITY_MAX = 0.0001, 0.9999
Z_MAX = 700.0  # beyond it `exp` overflows


def held(probability: float) -> float:
    """The probability, held within 0.0001 and 0.9999: nothing that the model says is certain."""
    return min(max(probability, PROBABILITY_MIN), PROBABILITY_MAX)


def logit(probability: float) -> float:
    """Log odds, of a probability held within 0.0001 and 0.9999."""
    # The usual case first: a fold spends much of its time here.
    if PROBABILITY_MIN <= probability <= PROBABILITY_MAX:
        return log(probability / (1 - probability))
    p = held(probability)
    return log(p / (1 - p))


def sigmoid(z: float) -> float:
    """The probability of which `z` is the log odds; 0 and 1 only where a double knows no more between."""
    return 1 / (1 + exp(-min(max(z, -Z_MAX), Z_MAX)))
