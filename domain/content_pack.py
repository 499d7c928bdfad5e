"""A content pack: one school's course content in one file, for devices without a network.

The file is zstd-compressed JSON of `ContentPack`, its blocks the same as those of a pull page (domain/blocks.py), so that a device applies both
by the same code. It holds no person: users, classes and study records travel by sync and by bundle only.
"""

from __future__ import annotations

import msgspec

from domain.blocks import TableBlock
from domain.bodies import compress, decompress, from_json, to_json
from domain.errors import BodyTooLarge, InvalidInput, Problem
from domain.registry import Policy, ScopeKind, Table, tables_in

FORMAT = "carrel-content/1"
SUFFIX = ".carrel-content"
# Some hundred thousand questions; what a device reads of a file before and after inflating.
FILE_BYTES_MAX = 32 * 1024 * 1024
PLAIN_BYTES_MAX = 64 * 1024 * 1024

# The tables that a pack may hold, parents before children.
CONTENT_TABLES: tuple[Table, ...] = tuple(
    table for table in tables_in(ScopeKind.SCHOOL) if table.policy is Policy.SERVER and table.name != "users"
)


class ContentPack(msgspec.Struct, frozen=True):
    """Rows of the content tables with the feed numbers that they have on the school's server. `school_id` in internal form."""

    school_id: str
    school_name: str
    tables: dict[str, TableBlock]
    format: str = FORMAT


def encode(pack: ContentPack) -> bytes:
    """The file's bytes. Raises BodyTooLarge when no device would read them."""
    plain = to_json(pack)
    if len(plain) > PLAIN_BYTES_MAX:
        raise BodyTooLarge(PLAIN_BYTES_MAX)
    return compress(plain)


def decode(data: bytes) -> ContentPack:
    """The pack, its form checked; the blocks are checked where they are decoded (`blocks.decode_block`).

    Raises BodyTooLarge, MalformedJson for a damaged or cut file, InvalidInput for another format and for tables that no pack may hold.
    """
    if len(data) > FILE_BYTES_MAX:
        raise BodyTooLarge(FILE_BYTES_MAX)
    pack = from_json(decompress(data, "zstd", PLAIN_BYTES_MAX), ContentPack)
    if pack.format != FORMAT:
        raise InvalidInput([Problem("$.format", "unknown_format", f"This is not a content pack of the format {FORMAT}.")])
    if pack.tables.keys() - {table.name for table in CONTENT_TABLES}:
        raise InvalidInput(
            [Problem("$.tables", "unknown_table", "A content pack holds only topics, their prerequisites, concepts and questions.")]
        )
    return pack
