"""The examples of docs/protocol.md are what the code reads and writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from domain import bodies, wire
from domain.blocks import decode_block, decode_column
from domain.bodies import from_json, to_json
from domain.registry import TABLES, Kind
from domain.wire import PullAnswer, PushRequest

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
EXAMPLES = re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_every_message_has_an_example() -> None:
    messages = {name for name in vars(wire) if name.endswith(("Request", "Answer"))}
    assert {name for name, _ in EXAMPLES} == messages


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_is_read_without_a_field_left_over(name: str, text: str) -> None:
    message = from_json(text.encode(), getattr(wire, name))
    again = json.loads(to_json(message))
    assert again == json.loads(text)


def test_the_example_of_a_push_has_runs_that_decode() -> None:
    request = from_json(dict(EXAMPLES)["PushRequest"].encode(), PushRequest)
    for run in request.runs:
        table = TABLES[run.table]
        assert len(decode_column(Kind.ID, run.rows, run.n)) == run.n
        for name, encoded in run.fields.items():
            decode_column(table.column(name).kind, encoded, run.n)


def test_the_example_of_a_pull_has_blocks_that_decode() -> None:
    answer = from_json(dict(EXAMPLES)["PullAnswer"].encode(), PullAnswer)
    for name, block in answer.tables.items():
        known, unknown = decode_block(TABLES[name], block)
        assert not unknown
        assert known["feed_no"] == [90215]


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    limits = msgspec.to_builtins(wire.Limits())
    assert json.dumps(limits) in PAGE
    assert f"{bodies.BODY_BYTES_MAX // 2**20} MiB compressed and {bodies.PLAIN_BYTES_MAX // 2**20} MiB plain" in PAGE


def test_the_table_of_policies_names_every_table_that_travels() -> None:
    section = PAGE.partition("## 2.")[2].partition("## 3.")[0]
    assert [name for name in TABLES if name not in section] == []
