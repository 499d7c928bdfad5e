"""The file of a bundle: written, read, and kept within its limits."""

from __future__ import annotations

import pytest

from domain import bundle
from domain.bodies import compress, to_json
from domain.bundle import Header, Kind
from domain.errors import BundleRefused
from domain.sealing import new_keys, public_keys
from domain.wire import OperationVerdict

SENDER, READER = new_keys(), new_keys()
HEADER = Header(Kind.FROM_DEVICE, "a" * 32, "b" * 32, 1_795_000_000_000)


def written(body: bytes, header: Header = HEADER) -> bytes:
    return bundle.write(header, body, SENDER, public_keys(READER))


def test_a_body_comes_out_as_it_went_in() -> None:
    data = written(b'{"text": "answers"}')
    header = bundle.read_header(data, Kind.FROM_DEVICE)
    assert (header.school_id, header.device_id, header.made_at_ms) == (HEADER.school_id, HEADER.device_id, HEADER.made_at_ms)
    assert bundle.read_body(data, header, public_keys(SENDER), READER) == b'{"text": "answers"}'


def test_nothing_of_the_body_can_be_read_in_the_file() -> None:
    data = written(b'{"student": "Ada Lovelace"}')
    assert b"Lovelace" not in data
    assert compress(b'{"student": "Ada Lovelace"}')[4:] not in data


@pytest.mark.parametrize("length", [0, 5, len(bundle.MAGIC), len(bundle.MAGIC) + 2])
def test_a_file_that_ends_before_the_header_is_refused(length: int) -> None:
    with pytest.raises(BundleRefused):
        bundle.read_header(written(b"{}")[:length], Kind.FROM_DEVICE)


@pytest.mark.parametrize("size", [2**32 - 1, bundle.HEADER_BYTES_MAX + 1])
def test_a_header_may_not_say_that_it_is_larger_than_any(size: int) -> None:
    data = written(b"{}")
    at = len(bundle.MAGIC)
    with pytest.raises(BundleRefused) as refused:
        bundle.read_header(data[:at] + size.to_bytes(4, "big") + data[at + 4 :], Kind.FROM_DEVICE)
    assert refused.value.code == "bundle_damaged"


@pytest.mark.parametrize("message", ["", "This device may not write for that student.", "x" * 300])
def test_the_most_monotonous_answer_that_a_server_can_give_is_no_bomb(message: str) -> None:
    verdicts = to_json([OperationVerdict(seq, "rejected" if message else "duplicate", message or None) for seq in range(1, 40_001)])
    assert len(verdicts) > bundle.RATIO_FROM_BYTES
    data = bundle.write(Header(Kind.FROM_SCHOOL, "a" * 32, "b" * 32, 0), verdicts, SENDER, public_keys(READER))
    assert bundle.read_body(data, bundle.read_header(data, Kind.FROM_SCHOOL), public_keys(SENDER), READER) == verdicts
