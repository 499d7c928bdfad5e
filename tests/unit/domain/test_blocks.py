"""Columns on the wire come back as they were, and nothing else comes in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.blocks import BlockError, decode_column, encode_column
from domain.registry import INT64_MAX, Kind

ids = st.uuids().map(lambda u: u.hex)
text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=5,
)
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.ID: ids,
    Kind.INTEGER: st.integers(-INT64_MAX - 1, INT64_MAX),
    Kind.REAL: st.floats(allow_nan=False, allow_infinity=False),
    Kind.BOOLEAN: st.booleans(),
    Kind.TEXT: text,
    Kind.DATE: st.dates().map(str),
    Kind.JSON: json_values,
}
columns = st.sampled_from(list(VALUES)).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        st.one_of(
            st.lists(VALUES[kind] | st.none(), min_size=1, max_size=30),
            st.lists(VALUES[kind], min_size=1, max_size=3).flatmap(lambda few: st.lists(st.sampled_from(few), min_size=1, max_size=30)),
        ),
    )
)


@given(columns)
def test_every_column_comes_back_from_json_as_it_was(column: tuple[Kind, list[Any]]) -> None:
    kind, values = column
    wire = msgspec.json.decode(msgspec.json.encode(encode_column(kind, values)))
    assert decode_column(kind, wire, len(values)) == values


def test_each_kind_of_column_takes_its_small_form() -> None:
    a, b, c = "a" * 32, "b" * 32, "c" * 32
    assert encode_column(Kind.TEXT, ["free"] * 3) == {"c": "free"}
    assert encode_column(Kind.ID, [a, b, c]) == {"x": a + b + c}
    assert encode_column(Kind.INTEGER, [10, 12, 11]) == {"d": [10, 2, -1]}
    assert encode_column(Kind.ID, [a, b, a, b]) == {"v": [a, b], "i": [0, 1, 0, 1]}
    assert encode_column(Kind.BOOLEAN, [True, False]) == [True, False]


@pytest.mark.parametrize(
    ("kind", "encoded", "count"),
    [
        (Kind.INTEGER, [1, 2], 3),
        (Kind.INTEGER, [1, "2"], 2),
        (Kind.INTEGER, [1, True], 2),
        (Kind.INTEGER, [1, 2.0], 2),
        (Kind.INTEGER, [INT64_MAX + 1], 1),
        (Kind.INTEGER, {"d": [INT64_MAX, 1]}, 2),
        (Kind.INTEGER, {"d": [1, None]}, 2),
        (Kind.ID, {"x": "a" * 31}, 1),
        (Kind.ID, {"x": "A" * 32}, 1),
        (Kind.ID, ["g" * 32], 1),
        (Kind.ID, ["a" * 31, "a" * 33], 2),
        (Kind.TEXT, {"v": ["a"], "i": [1]}, 1),
        (Kind.TEXT, {"v": ["a"], "i": [-1]}, 1),
        (Kind.TEXT, {"v": ["a"], "i": [0], "more": 1}, 1),
        (Kind.TEXT, {}, 1),
        (Kind.TEXT, "aaa", 3),
        (Kind.TEXT, None, 1),
        (Kind.BOOLEAN, [0, 1], 2),
        (Kind.REAL, ["1.5"], 1),
    ],
)
def test_a_column_of_another_form_length_or_type_is_refused(kind: Kind, encoded: Any, count: int) -> None:
    with pytest.raises(BlockError):
        decode_column(kind, encoded, count)
