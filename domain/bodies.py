"""The bodies of requests and answers: JSON, and what compression makes of it. Nothing is unfolded further than its limit.

JSON that is nested deeper than a page of rows needs is refused by msgspec's own recursion limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import zstandard

from domain.errors import BodyTooLarge, MalformedJson, Problem

# What either side reads of a compressed body before and after inflating.
BODY_BYTES_MAX = 8 * 1024 * 1024
PLAIN_BYTES_MAX = 32 * 1024 * 1024
# How many times larger than what was sent a body may become: the most repetitive batch comes to some 60. Small ones may be of nothing but zeros.
INFLATED_RATIO_MAX = 300
INFLATED_FREE_BYTES = 1024 * 1024
ZSTD_LEVEL = 3

Message = TypeVar("Message")


def to_json(message: Any) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(message)


def from_json(data: bytes, kind: type[Message]) -> Message:
    """The message, or MalformedJson with the place that is wrong. Never echoes a value of the input."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        path, message = split_path(str(error))
        raise MalformedJson([Problem(path, "malformed", message)]) from error


def split_path(message: str) -> tuple[str, str]:
    """msgspec's "… - at `$.runs[0].n`" as (path, sentence)."""
    text, _, path = message.partition(" - at `")
    return (path.rstrip("`") or "$"), text


def compress(data: bytes) -> bytes:
    """zstd; 0.24 ms for a thousand attempts."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)


def decompress(data: bytes, encoding: str, limit_bytes: int = PLAIN_BYTES_MAX) -> bytes:
    """The plain body of one sent with Content-Encoding zstd, gzip or identity, never inflating past `limit_bytes`, or out of proportion.

    Raises BodyTooLarge beyond the limit and MalformedJson for a damaged or cut body or another encoding.
    """
    limit_bytes = min(limit_bytes, max(INFLATED_FREE_BYTES, len(data) * INFLATED_RATIO_MAX))
    try:
        plain = _INFLATERS[encoding.strip().lower() or "identity"](data, limit_bytes)
    except (zlib.error, zstandard.ZstdError, KeyError) as error:
        raise MalformedJson([Problem("$", "malformed", "The body cannot be decompressed (accepted encodings: zstd, gzip).")]) from error
    if len(plain) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return plain


def _inflate_zstd(data: bytes, limit_bytes: int) -> bytes:
    # A frame names its size before anything is inflated; one that does not is held to the limit.
    if zstandard.frame_content_size(data) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    plain: bytes = zstandard.ZstdDecompressor(max_window_size=2**25).decompress(data, max_output_size=limit_bytes)
    return plain


def _inflate_gzip(data: bytes, limit_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    plain = inflater.decompress(data, limit_bytes + 1)
    if len(plain) <= limit_bytes and not inflater.eof:
        raise zlib.error("truncated")
    return plain


_INFLATERS: dict[str, Callable[[bytes, int], bytes]] = {
    "zstd": _inflate_zstd,
    "gzip": _inflate_gzip,
    "identity": lambda data, limit_bytes: data,
}
