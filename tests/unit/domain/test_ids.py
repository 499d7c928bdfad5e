"""Ids: order, form, parsing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import IdSource, dashed, derived_id, is_id, parse_id


def test_ids_of_one_source_sort_in_the_order_in_which_they_were_made_even_when_the_clock_goes_back() -> None:
    times = iter([5, 5, 5, 9, 3, 3, 20, 20] + [20] * 5_000)
    source = IdSource(lambda: next(times), random.Random(1).getrandbits)
    made = [source.new() for _ in range(5_008)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_is_a_uuid_of_version_seven_with_its_time_in_front() -> None:
    id_ = IdSource(lambda: 0x0123456789AB).new()
    assert id_.startswith("0123456789ab7")
    assert id_[16] in "89ab"


@given(st.uuids())
def test_both_written_forms_of_a_uuid_parse_to_the_same_id_and_back(uuid: object) -> None:
    text = str(uuid)
    assert parse_id(text) == parse_id(text.upper()) == parse_id(text.replace("-", ""))
    assert dashed(parse_id(text)) == text


@pytest.mark.parametrize("text", ["", "x" * 32, "0" * 31, "0" * 33, "{" + "0" * 34 + "}", "0" * 32 + "\n", "٠" * 32])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        parse_id(text)
    assert not is_id(text)


def test_a_derived_id_depends_on_each_part_and_on_where_parts_end() -> None:
    assert derived_id("a", "bc") == derived_id("a", "bc")
    assert len({derived_id("a", "bc"), derived_id("ab", "c"), derived_id("abc")}) == 3
    assert is_id(derived_id("a"))
