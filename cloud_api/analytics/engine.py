"""By which table of rates and which weights the figures are made: the school's mastery model in force."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api.database import Cursor
from cloud_api.learning.model import current_model
from domain.learning.analytics.student import FIGURES_VERSION
from domain.learning.features import Weights
from domain.learning.rates import Rates

# With this begins the version of every engine whose figures are kept in the form that this program reads.
FORM = f"{FIGURES_VERSION}/"


@dataclass(frozen=True, slots=True)
class Engine:
    """What the model reads; `version` names all of it, and figures made under another one are made anew."""

    rates: Rates
    weights: Weights
    version: str


def engine_of(cursor: Cursor, school_id: str) -> Engine:
    """The engine that counts in a school now."""
    model = current_model(cursor, school_id)
    return Engine(model.rates, model.weights, FORM + model.version)
