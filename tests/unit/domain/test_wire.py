"""Bytes of messages: bounded, checked, and silent about what they held."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from domain.bodies import compress, decompress, from_json, to_json
from domain.errors import BodyTooLarge, MalformedJson
from domain.wire import HeadAnswer, PullRequest


def test_a_message_comes_back_through_either_compression() -> None:
    plain = to_json(PullRequest(1, "a" * 32, {"school": 7}))
    assert from_json(decompress(compress(plain), "zstd"), PullRequest).cursors == {"school": 7}
    assert from_json(decompress(gzip.compress(plain), "gzip"), PullRequest).cursors == {"school": 7}
    assert from_json(decompress(plain, ""), PullRequest).cursors == {"school": 7}


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_a_bomb_is_refused_without_being_inflated(encoding: str) -> None:
    zeros = b"0" * 50_000_000
    bomb = zstandard.compress(zeros) if encoding == "zstd" else gzip.compress(zeros)
    with pytest.raises(BodyTooLarge):
        decompress(bomb, encoding, limit_bytes=1_000_000)


@pytest.mark.parametrize("damage", [lambda b: b[:-4], lambda b: b"", lambda b: b"<html>", lambda b: b[:10] + b"xxxx" + b[14:]])
@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
def test_a_damaged_body_is_refused(encoding: str, damage: object) -> None:
    plain = to_json(PullRequest(1, "a" * 32, {f"student:{n:032x}": n for n in range(100)}))
    body = compress(plain) if encoding == "zstd" else gzip.compress(plain)
    with pytest.raises(MalformedJson):
        decompress(damage(body), encoding)  # type: ignore[operator]


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(MalformedJson):
        decompress(b"{}", "br")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"head":NaN}', b'{"head":"1"}', b"{}", b'{"head":1}x', b"\xff", b"[" * 100_000]
)
def test_what_is_no_message_is_refused_with_its_place(body: bytes) -> None:
    with pytest.raises(MalformedJson) as refused:
        from_json(body, HeadAnswer)
    assert refused.value.problems[0].path.startswith("$")


def test_a_refusal_never_repeats_what_was_sent() -> None:
    with pytest.raises(MalformedJson) as refused:
        from_json(b'{"head":"the secret answer"}', HeadAnswer)
    assert "secret" not in str(refused.value)


def test_fields_of_a_newer_peer_are_passed_over() -> None:
    answer = from_json(b'{"head":1,"server_time_ms":2,"server_epoch":"e","poll_after_s":3,"novelty":{"a":1}}', HeadAnswer)
    assert answer.head == 1
