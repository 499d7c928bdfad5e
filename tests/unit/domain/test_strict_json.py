"""What JSON parsers disagree about is refused, however it is written and however large the message is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.bodies import INFLATED_FREE_BYTES, compress, decompress, from_json, to_json
from domain.errors import BodyTooLarge, MalformedJson
from domain.strict_json import demand_strict
from domain.wire import ClockReading, PullRequest, PushRequest, Run

BOOT = "0d9f1c2b3a4958677869504132231405"
# Long enough not to be parsed twice at once.
LONG = [f"answer {n}" for n in range(300)]


def push(**fields: Any) -> bytes:
    run = Run(
        "question_attempts",
        "insert",
        1,
        300,
        {"x": BOOT * 300},
        {"d": [1] * 300},
        {"c": 1},
        {"c": BOOT},
        {"c": 0},
        {"answer": LONG, **fields},
    )
    return to_json(PushRequest(1, BOOT, 1, "0" * 32, ClockReading(1, 1, BOOT), [run]))


def demand(body: bytes) -> None:
    demand_strict(body, from_json(body, PushRequest))


def test_what_the_product_writes_passes() -> None:
    demand(push())
    demand(push(forecast=[{"a": {"b": [1, {"c": 2}]}}] * 300, correct=[True] * 300, note=['"quoted": \\" :'] * 300))
    pull = to_json(PullRequest(1, BOOT, {f"student:{n:032x}": n for n in range(100)}))
    demand_strict(pull, from_json(pull, PullRequest))
    unknown = msgspec.json.encode({**msgspec.json.decode(push()), "newer": {"field": 1}})
    demand(unknown)


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b'"protocol":1', b'"protocol":1,"protocol":1'),
        (b'"protocol":1', b'"protocol":1, "protocol" :1'),
        (b'"protocol":1', b'"protocol":1,"\\u0070rotocol":2'),
        (b'"answer":', b'"answer":["x"],"answer":'),
        (b'"fields":{', b'"newer":{"a":1,"a":2},"fields":{'),
        (b'"fields":{', b'"fields":{"correct" :{"c":true},"correct":{"c":false},'),
        (b'"fields":{', b'"fields":{"n":[{"a":1,"a":2}],'),
        (b'"wall_ms":1', b'"wall_ms":9223372036854775808'),
        (b'"wall_ms":1', b'"wall_ms":-9223372036854775809'),
        (b'"fields":{', b'"fields":{"forecast":[{"a": 100000000000000000000}],'),
        (b'"fields":{', b'"fields":{"forecast":[{"a":' + b"9" * 5_000 + b"}],"),
    ],
)
@pytest.mark.parametrize("small", [False, True])
def test_what_parsers_understand_differently_is_refused(there: bytes, instead: bytes, small: bool) -> None:
    body = push().replace(there, instead, 1)
    if small:
        body = body.replace(to_json(LONG), b'["x"]').replace((BOOT * 300).encode(), BOOT.encode())
    assert body.count(instead) == 1
    with pytest.raises(MalformedJson):
        demand(body)


@pytest.mark.parametrize("body", [b'{"protocol":NaN}', b'{"protocol":Infinity}', b'{"protocol":1e999}', b"[" * 100_000, b'{"a":' * 50_000])
def test_no_number_that_is_none_and_no_depth_without_end(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        demand_strict(body, from_json(body, dict))


def test_a_body_does_not_become_three_hundred_times_larger() -> None:
    assert len(decompress(compress(bytes(INFLATED_FREE_BYTES)), "zstd")) == INFLATED_FREE_BYTES
    with pytest.raises(BodyTooLarge):
        decompress(compress(bytes(2 * INFLATED_FREE_BYTES)), "zstd")
