"""The hash chain over a device's log."""

from __future__ import annotations

import json

from domain.operations import CHAIN_START, canonical_bytes, canonical_prefix, next_chain


def test_the_canonical_bytes_are_a_json_array_that_holds_the_payload_as_it_was_stored() -> None:
    prefix = canonical_prefix("question_attempts", "insert", 1)
    data = canonical_bytes(prefix, 7, "a" * 32, "b" * 32, 0, 1_700_000_000_000, '{"answer":"é","correct":true}')
    assert json.loads(data) == [
        7, "a" * 32, "b" * 32, 0, 1_700_000_000_000, "question_attempts", "insert", 1, {"answer": "é", "correct": True},
    ]  # fmt: skip
    assert b" " not in data


def test_the_chain_depends_on_every_operation_and_on_their_order() -> None:
    def chain(*operations: bytes) -> bytes:
        link = CHAIN_START
        for operation in operations:
            link = next_chain(link, operation)
        return link

    assert len({chain(), chain(b"a"), chain(b"a", b"b"), chain(b"b", b"a"), chain(b"ab")}) == 5
    assert len(chain(b"a")) == 16


def test_the_chain_is_the_one_of_the_protocol() -> None:
    assert next_chain(CHAIN_START, b"[1]").hex() == "6190298cc20ad57524b11003e1bd54cc"
