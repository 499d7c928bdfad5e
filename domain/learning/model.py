"""The mastery model that is in force: a table of rates and a set of weights, named together by a version.

A school's server publishes both (`difficulty_snapshots`, `model_weights`); the newest that a program can read counts, on the server as on devices, and what is
shipped stands in for what there is not. Scores made with equal versions from equal attempts are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from domain.errors import InvalidInput, Problem
from domain.learning.difficulty import DifficultySnapshot, read_snapshot
from domain.learning.features import WEIGHTS, Weights
from domain.learning.mastery import MODEL_VERSION
from domain.learning.rates import Rates

# Hex digits of a hash that a version shows.
HASH_DIGITS = 12
# A weight beyond this was fitted on nonsense.
WEIGHT_MAX = 100.0


@dataclass(frozen=True, slots=True)
class MasteryModel:
    """`version` names the features and levels (`MODEL_VERSION`), and, where they are a school's own, the weights (`w`) and the table (`d`):
    `compact-lr-2.w3f9c….d07ab…`."""

    version: str
    rates: Rates
    weights: Weights


def mastery_model(snapshot: DifficultySnapshot | None, weights: Weights | None) -> MasteryModel:
    """The model of a school with this table and these weights; what is shipped where it has none."""
    version = MODEL_VERSION
    if weights is not None and weights != WEIGHTS:
        version += f".w{hashlib.sha256(encode_weights(weights).encode()).hexdigest()[:HASH_DIGITS]}"
    if snapshot is not None:
        version += f".d{snapshot.id[:HASH_DIGITS]}"
    return MasteryModel(version, snapshot.rates if snapshot else Rates.empty(), weights or WEIGHTS)


def newest_snapshot(contents: Iterable[str]) -> DifficultySnapshot | None:
    """The first that can be read, of published tables newest first; a newer server may publish forms that this program does not know."""
    for content in contents:
        try:
            return read_snapshot(content.encode())
        except InvalidInput:
            continue
    return None


def newest_weights(contents: Iterable[str]) -> Weights | None:
    """The first that can be read, of published weights newest first."""
    for content in contents:
        try:
            return read_weights(content)
        except InvalidInput:
            continue
    return None


def encode_weights(weights: Weights) -> str:
    """Weights as JSON, by feature; numbers come back to the last bit."""
    return json.dumps(weights._asdict(), separators=(",", ":"))


def read_weights(content: str) -> Weights:
    """Weights from their JSON. Raises InvalidInput for anything that `encode_weights` cannot have made."""
    try:
        stated = json.loads(content)
        if not isinstance(stated, dict) or stated.keys() != set(Weights._fields):
            raise ValueError("not weights of this model")
        return Weights(**{name: _weight(value) for name, value in stated.items()})
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Problem("$", "malformed", "These are not weights of the mastery model.")]) from error


def _weight(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value) or abs(value) > WEIGHT_MAX:
        raise ValueError("not a weight")
    return float(value)
