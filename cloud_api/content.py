"""The school's course content as one file for devices."""

from __future__ import annotations

from cloud_api.database import Cursor
from cloud_api.publication import read_rows
from cloud_api.schools import find_school
from domain import content_pack
from domain.blocks import TableBlock, encode_block
from domain.content_pack import CONTENT_TABLES, ContentPack
from domain.registry import Table


def export_content(cursor: Cursor, school_id: str) -> bytes:
    """The content pack of a school, in a transaction with `snapshot=True`: every row, retired ones too, because attempts refer to them.

    The same content gives the same bytes. Raises NotFound for an unknown school, BodyTooLarge when it does not fit a pack.
    """
    school = find_school(cursor, school_id)
    blocks = {table.name: _block(cursor, table, school.id) for table in CONTENT_TABLES}
    tables = {name: block for name, block in blocks.items() if block is not None}
    return content_pack.encode(ContentPack(school.id, school.name, tables))


def _block(cursor: Cursor, table: Table, school_id: str) -> TableBlock | None:
    rows = list(read_rows(cursor, table, school_id).values())
    if not rows:
        return None
    columns = {name: [row[name] for row in rows] for name in (*table.column_names, "feed_no")}
    return encode_block(table, columns, len(rows))
