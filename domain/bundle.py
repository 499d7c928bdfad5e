"""Bundles: what a push and a pull would carry, as one file for a stick (docs/bundles.md).

    "carrel-bundle/1\\n" │ length of the header, 4 bytes │ header, JSON │ sealed: zstd of the body, JSON │ signature

The sender signs everything before the signature, and the body is sealed to the one reader together with all that stands before it. So a reader looks,
in this order, at sizes, at the header, at the signature, opens the seal, and inflates: nothing of a stranger's is ever inflated.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from domain import sealing
from domain.bodies import compress, decompress
from domain.errors import BodyTooLarge, BundleRefused, MalformedJson
from domain.ids import is_id
from domain.sealing import SIGNATURE_BYTES, BrokenSeal, PublicKeys, SecretKeys
from domain.wire import PullRequest, PushAnswer

SUFFIX = ".carrel-bundle"
MAGIC = b"carrel-bundle/1\n"
_FAMILY = MAGIC[: MAGIC.index(b"/") + 1]
_LENGTH_BYTES = 4
HEADER_BYTES_MAX = 1_024
# A body before it is compressed: some 300,000 answers. What does not fit goes with the next bundle.
PLAIN_BYTES_MAX = 16 * 1024 * 1024
# Text that does not compress at all still fits.
FILE_BYTES_MAX = PLAIN_BYTES_MAX + 1024 * 1024
# Operations and pages shrink to a third, the most monotonous answers to a two-hundredth. A bomb is ten thousand times as large as its file.
RATIO_MAX = 1_000
# Below this nothing is a bomb, whatever its ratio.
RATIO_FROM_BYTES = 1024 * 1024
# Bytes of a body that are neither operations nor pages: cursors of as many scopes as a pull may name, and the frame.
FRAME_BYTES_MAX = 512 * 1024


class Kind(StrEnum):
    """Who writes a bundle, and to whom."""

    FROM_DEVICE = "from_device"
    FROM_SCHOOL = "from_school"


class Header(msgspec.Struct, frozen=True):
    """What stands open at the beginning: which device of which school the bundle is from or for. `sealed_bytes` tells a file that was cut off."""

    kind: Kind
    school_id: str
    device_id: str
    made_at_ms: int
    sealed_bytes: int = 0


class FromDevice(msgspec.Struct, frozen=True):
    """What a device sends: every PushRequest that it would send now, in order, and the pull that it would ask for. `server_epoch` is the one it knows.

    The pushes stay JSON until they are needed, one at a time.
    """

    server_epoch: str
    pull: PullRequest
    pushes: list[msgspec.Raw]


class Answered(msgspec.Struct, frozen=True):
    """The answer to one push of a bundle, which began with `first_seq`."""

    first_seq: int
    answer: PushAnswer


class Feed(msgspec.Struct, frozen=True):
    """Pages (PullAnswer, as JSON) of one moment of the school, in order, beginning at the cursors `since`.

    `head` is the feed number of the school's latest change at that moment; deletions below `tombstone_floor` are not among them any more.
    """

    since: dict[str, int]
    head: int
    tombstone_floor: int
    pages: list[msgspec.Raw]


class FromSchool(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a school sends: with `incarnation`, the answers (Answered, as JSON) to a bundle of the device's; perhaps the feed.

    `parted` is `fork` or `ahead` when the device's log is not the one that the server knows (docs/protocol.md, "Identity").
    """

    server_epoch: str
    incarnation: str = ""
    answers: list[msgspec.Raw] = []
    parted: str = ""
    feed: Feed | None = None


def write(header: Header, body: bytes, sender: SecretKeys, reader: PublicKeys) -> bytes:
    """The bytes of a bundle around a body's JSON. Raises BundleRefused (`bundle_too_large`) for a body that no reader would take."""
    if len(body) > PLAIN_BYTES_MAX:
        raise BundleRefused("bundle_too_large", f"A bundle holds at most {PLAIN_BYTES_MAX} bytes.")
    packed = compress(body)
    text = msgspec.json.encode(msgspec.structs.replace(header, sealed_bytes=len(packed) + sealing.SEAL_BYTES))
    opening = MAGIC + len(text).to_bytes(_LENGTH_BYTES, "big") + text
    signed = opening + sealing.seal(packed, reader.seal, opening)
    return signed + sealing.sign(signed, sender.sign)


def read_header(data: bytes, kind: Kind) -> Header:
    """The header of a whole bundle of that kind. What it says is not proven yet. Raises BundleRefused."""
    if len(data) > FILE_BYTES_MAX:
        raise BundleRefused("bundle_too_large", f"The file is larger than a bundle can be ({FILE_BYTES_MAX} bytes).")
    if not data.startswith(MAGIC):
        if data.startswith(_FAMILY):
            raise BundleRefused("bundle_unknown", "The bundle was written by another version of Carrel: upgrade this one.")
        raise BundleRefused("bundle_unknown", "The file is not a bundle of Carrel's.")
    header = _header(data)
    missing = _sealed_at(data) + header.sealed_bytes + SIGNATURE_BYTES - len(data)
    if missing > 0:
        raise BundleRefused("bundle_damaged", f"The bundle is cut off: {missing} bytes are missing. Copy it again.")
    if missing < 0:
        raise BundleRefused("bundle_damaged", "Something was added to the bundle. Copy it again.")
    if header.kind is not kind:
        taker = "school's server (carrel-cloud bundle import)" if header.kind is Kind.FROM_DEVICE else "device (carrel bundle import)"
        raise BundleRefused("bundle_foreign", f"This bundle is for a {taker}.")
    return header


def read_body(data: bytes, header: Header, sender: PublicKeys, reader: SecretKeys) -> bytes:
    """The body's JSON, once the signature is found to be the sender's. `data` and `header` are those of `read_header`. Raises BundleRefused."""
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    if not sealing.is_signed(signed, signature, sender.verify):
        raise BundleRefused(
            "bundle_damaged", "The signature is not right: the bundle was altered or damaged on its way, or is not of whom it says."
        )
    at = _sealed_at(data)
    try:
        packed = sealing.unseal(signed[at:], reader.seal, signed[:at])
    except BrokenSeal as error:
        raise BundleRefused("bundle_foreign", "The bundle was sealed for somebody else, or with keys of before.") from error
    limit_bytes = min(PLAIN_BYTES_MAX, max(RATIO_FROM_BYTES, RATIO_MAX * len(packed)))
    try:
        return decompress(packed, "zstd", limit_bytes)
    except BodyTooLarge as error:
        raise BundleRefused("bundle_too_large", f"The bundle would unpack to more than {limit_bytes} bytes.") from error
    except MalformedJson as error:
        raise BundleRefused("bundle_damaged", "The bundle cannot be unpacked.") from error


def _header(data: bytes) -> Header:
    at = len(MAGIC) + _LENGTH_BYTES
    length = _header_bytes(data)
    if length > HEADER_BYTES_MAX:
        raise BundleRefused("bundle_damaged", "The bundle's beginning is damaged. Copy it again.")
    try:
        header = msgspec.json.decode(data[at : at + length], type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefused("bundle_damaged", "The bundle's beginning is damaged. Copy it again.") from error
    if not is_id(header.school_id) or not is_id(header.device_id) or not 0 <= header.sealed_bytes <= FILE_BYTES_MAX:
        raise BundleRefused("bundle_damaged", "The bundle's beginning is damaged. Copy it again.")
    return header


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[len(MAGIC) : len(MAGIC) + _LENGTH_BYTES], "big")


def _sealed_at(data: bytes) -> int:
    """Where the sealed part begins."""
    return len(MAGIC) + _LENGTH_BYTES + _header_bytes(data)
