"""The model in force: what is published is read as it was, what cannot be read is passed over, and the version tells which."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidInput
from domain.learning.difficulty import DifficultyTable, snapshot
from domain.learning.features import WEIGHTS, Weights
from domain.learning.mastery import MODEL_VERSION
from domain.learning.model import WEIGHT_MAX, encode_weights, mastery_model, newest_snapshot, newest_weights, read_weights
from domain.learning.rates import Rates
from tests.unit.domain.learning.test_mastery_difficulty import ANSWERS

OWN = WEIGHTS._replace(gap=-0.5)


@given(st.lists(st.floats(-WEIGHT_MAX, WEIGHT_MAX), min_size=len(WEIGHTS), max_size=len(WEIGHTS)))
def test_weights_come_back_to_the_last_bit(values: list[float]) -> None:
    assert read_weights(encode_weights(Weights(*values))) == Weights(*values)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "null", "1", "[" * 100_000,
        json.dumps({**WEIGHTS._asdict(), "luck": 1.0}),
        json.dumps({**WEIGHTS._asdict(), "gap": True}),
        json.dumps({**WEIGHTS._asdict(), "gap": "1"}),
        json.dumps({**WEIGHTS._asdict(), "gap": float("inf")}),
        json.dumps({**WEIGHTS._asdict(), "gap": 2 * WEIGHT_MAX}),
    ],
)  # fmt: skip
def test_what_are_no_weights_is_refused_and_passed_over(content: str) -> None:
    with pytest.raises(InvalidInput):
        read_weights(content)
    assert newest_weights([content, encode_weights(OWN)]) == OWN
    assert newest_weights([content]) is None


def test_a_table_that_cannot_be_read_leaves_the_one_before_in_force() -> None:
    known = snapshot(DifficultyTable.of(ANSWERS))
    assert newest_snapshot(['{"format":2}', known.encoded.decode(), "{}"]) == known
    assert newest_snapshot(["{}"]) is None


def test_the_version_tells_weights_and_table_apart_and_what_is_shipped_from_both() -> None:
    one, other = (snapshot(DifficultyTable.of(answers)) for answers in (ANSWERS, ANSWERS[:50]))
    shipped = mastery_model(None, None)
    assert (shipped.version, shipped.weights, shipped.rates) == (MODEL_VERSION, WEIGHTS, Rates.empty())
    assert mastery_model(None, WEIGHTS) == shipped
    versions = {mastery_model(table, weights).version for table in (None, one, other) for weights in (None, OWN)}
    assert len(versions) == 6
    assert mastery_model(one, OWN).version == mastery_model(one, read_weights(encode_weights(OWN))).version
