"""What a device stored is, byte for byte, what the server reads out of the columns: else the two chains part for good."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_api.sync.batch import decode_push, judge_by_registry
from daemon.queue.unreadable import is_readable
from daemon.sync.push import chain_after, encode_runs
from domain.bodies import from_json, to_json
from domain.errors import InvalidInput
from domain.ids import Id
from domain.operations import CHAIN_START, Operation
from domain.registry import INT64_MAX, TABLES, Column, Kind
from domain.wire import ClockReading, PushRequest

ids = st.uuids().map(lambda u: Id(u.hex))
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["", "\\N", "\\", "\t\r\n\x00", "é漢🙂\u2028", '"'])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 1e22, 5e-324, 0.1])
odd = st.none() | st.booleans() | st.sampled_from([0, 1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30]) | floats | text
anything = st.recursive(odd, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6)
FITTING: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.ID: ids,
    Kind.INTEGER: st.integers(-INT64_MAX - 1, INT64_MAX),
    Kind.REAL: floats,
    Kind.BOOLEAN: st.booleans(),
    Kind.TEXT: text,
    Kind.DATE: st.dates().map(str),
    Kind.JSON: anything,
}


def values_of(column: Column | None) -> st.SearchStrategy[Any]:
    """Mostly values that fit the column, now and then none or anything at all."""
    fitting = FITTING[column.kind] if column else anything
    return st.one_of(fitting, fitting, fitting, st.none(), anything)


@st.composite
def logs(draw: st.DrawFn) -> list[Operation]:
    """Operations as they stand in a device's file, of a few shapes so that runs form."""
    shapes = []
    for _ in range(draw(st.integers(1, 2))):
        table = draw(st.sampled_from([*TABLES.values(), None]))
        known = {c.name: c for c in table.columns} if table else {}
        names = draw(st.lists(st.sampled_from([*known, "novelty", "mood\x00", ""]), unique=True, max_size=6))
        shapes.append((table.name if table else "no_such", draw(st.sampled_from(["insert", "update", "void", "odd"])), names, known))
    operations = []
    for seq in range(1, draw(st.integers(2, 8))):
        table_name, kind, names, known = draw(st.sampled_from(shapes))
        payload = {name: draw(values_of(known.get(name))) for name in names}
        row_id = draw(ids)
        op_id = row_id if kind == "insert" else draw(ids)
        stamp = st.integers(-INT64_MAX - 1, INT64_MAX)
        text_ = msgspec.json.encode(payload).decode()
        operations.append(Operation(seq, op_id, table_name, row_id, kind, 1, draw(stamp), draw(stamp), draw(stamp), "b" * 32, text_))
    return operations


def sent(operations: list[Operation]) -> PushRequest:
    clock = ClockReading(1_795_000_000_000, 5, "b" * 32)
    return from_json(to_json(PushRequest(1, "a" * 32, 1, CHAIN_START.hex(), clock, encode_runs(operations))), PushRequest)


@settings(max_examples=400)
@given(logs())
def test_the_server_reads_the_chain_that_the_device_wrote_whatever_the_payloads_hold(operations: list[Operation]) -> None:
    batch = decode_push(sent(operations)).batch()
    assert batch.chains[-1] == chain_after(CHAIN_START, operations)
    judge_by_registry(batch, batch.runs)  # and judges them, whatever they are
    assert all(map(is_readable, operations))


GOOD = Operation(1, Id("1" * 32), "study_plans", Id("1" * 32), "insert", 1, 0, 0, 0, "b" * 32, '{"days":7}')


@pytest.mark.parametrize(
    "damage",
    [
        {"row_id": "x", "op_id": "x"},
        {"op_id": "2" * 32},
        {"payload": '{"days": 7}'},
        {"payload": '{"days":7'},
        {"payload": '{"days":7,"days":8}'},
        {"payload": "[7]"},
    ],
)
def test_an_operation_that_does_not_count_as_readable_is_one_that_the_server_cannot_read_or_not_as_it_is(damage: dict[str, Any]) -> None:
    damaged = GOOD._replace(**damage)
    assert not is_readable(damaged)
    with pytest.raises((InvalidInput, msgspec.DecodeError, TypeError, LookupError, AssertionError)):
        assert decode_push(sent([damaged])).chains[-1] == chain_after(CHAIN_START, [damaged])


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("forecast", [{"a": 1}, {"a": 1.0}]),
        ("forecast", [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
        ("forecast", [{"a": 0.0}, {"a": -0.0}]),
        ("novelty", [1, True]),
        ("days", [7, True]),
        ("days", [7, "7"]),
        ("days", [7, 7.0]),
        ("device_id", ["a" * 31, "b" * 33]),
        ("planner_version", ["1", ["1"]]),
        ("starts_on", [{"y": 2026}, "2026-12-01"]),
    ],
)
def test_values_that_python_calls_equal_or_cannot_hash_travel_as_they_are(column: str, values: list[Any]) -> None:
    operations = [
        Operation(
            n, Id(f"{n:032x}"), "study_plans", Id(f"{n:032x}"), "insert", 1, 0, 0, 0, "b" * 32, msgspec.json.encode({column: v}).decode()
        )
        for n, v in enumerate(values, 1)
    ]
    assert decode_push(sent(operations)).chains[-1] == chain_after(CHAIN_START, operations)


@pytest.mark.parametrize("sizes", [[1_000_000_000, -999_999_999], [10**12], [0], [-1]])
def test_a_run_that_lies_about_its_length_is_refused_before_anything_is_unfolded(sizes: list[int]) -> None:
    run = encode_runs([Operation(1, Id("1" * 32), "study_plans", Id("1" * 32), "insert", 1, 0, 0, 0, "b" * 32, "{}")])[0]
    clock = ClockReading(1_795_000_000_000, 5, "b" * 32)
    runs = [msgspec.structs.replace(run, n=size) for size in sizes]  # the others are negative, so that the sum is small
    with pytest.raises(InvalidInput):
        decode_push(PushRequest(1, "a" * 32, 1, CHAIN_START.hex(), clock, runs))
