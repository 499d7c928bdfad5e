"""Sealing and signing: what opens, and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sealing import KEY_BYTES, BrokenSeal, SecretKeys, is_signed, new_keys, public_keys, seal, sign, unseal

OURS, OTHERS = new_keys(), new_keys()
# RFC 8032, section 7.1, test 2; RFC 7748, section 6.1, Alice.
RFC = SecretKeys(
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
    bytes.fromhex("77076d0a7318a57d3c16c17251b26645df1f1e8e6f5f5b0c2b1d2e3f00000000"),
)


def test_public_halves_and_signatures_are_those_of_the_rfc() -> None:
    assert public_keys(RFC).verify.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert sign(b"\x72", RFC.sign).hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens_for_its_reader_with_its_context_alone(plain: bytes, context: bytes) -> None:
    sealed = seal(plain, public_keys(OURS).seal, context)
    assert unseal(sealed, OURS.seal, context) == plain
    for key, said in ((OTHERS.seal, context), (OURS.seal, context + b"!")):
        with pytest.raises(BrokenSeal):
            unseal(sealed, key, said)


@given(st.binary(max_size=100), st.data())
def test_an_altered_or_shortened_text_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = seal(plain, public_keys(OURS).seal, b"")
    place = data.draw(st.integers(0, len(sealed) - 1))
    for wrong in (sealed[:place] + bytes([sealed[place] ^ 4]) + sealed[place + 1 :], sealed[:place]):
        with pytest.raises(BrokenSeal):
            unseal(wrong, OURS.seal, b"")


def test_two_seals_of_one_text_have_nothing_in_common() -> None:
    first, second = (seal(bytes(100), public_keys(OURS).seal, b"") for _ in range(2))
    assert first[:KEY_BYTES] != second[:KEY_BYTES]
    assert first[KEY_BYTES:] != second[KEY_BYTES:]


@pytest.mark.parametrize("key", [bytes(KEY_BYTES), b"short", b"\x01" + bytes(31)])
def test_a_key_that_is_none_seals_nothing(key: bytes) -> None:
    with pytest.raises(BrokenSeal):
        seal(b"text", key, b"")


def test_a_signature_holds_for_its_text_and_its_key_alone() -> None:
    signature = sign(b"text", OURS.sign)
    assert is_signed(b"text", signature, public_keys(OURS).verify)
    for text, given_signature, key in (
        (b"test", signature, public_keys(OURS).verify),
        (b"text", signature, public_keys(OTHERS).verify),
        (b"text", signature[:-1], public_keys(OURS).verify),
        (b"text", signature, b"short"),
    ):
        assert not is_signed(text, given_signature, key)
