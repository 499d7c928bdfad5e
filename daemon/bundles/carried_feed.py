"""The feed of a bundle becomes visible rows, whatever this device has fetched since the bundle was written.

A page says what was so between two cursors. Here, rows and deletions that a device's cursor has passed already are left out: they may have changed or gone
since, and must not come back. No cursor moves back, and none jumps over what this device does not have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from daemon import inbox
from domain.blocks import BlockError, TableBlock, decode_block, decode_column
from domain.bodies import from_json
from domain.bundle import Feed
from domain.errors import BundleRefused
from domain.registry import TABLES, Kind, ScopeKind, Table
from domain.wire import PullAnswer


class Use(Enum):
    """What to do with a feed."""

    APPLY = "apply"
    # Everything is forgotten first: this device was away for longer than deletions are remembered.
    APPLY_ANEW = "apply_anew"
    # This device has something newer.
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far this device is: its cursors, and those of them that are on their way from 0; perhaps all are."""

    cursors: Mapping[str, int]
    filling: Sequence[str]
    rebaselining: bool

    @classmethod
    def of(cls, conn: sqlite3.Connection) -> Standing:
        return cls(inbox.read_cursors(conn), inbox.read_filling(conn), inbox.is_rebaselining(conn))

    def from_zero(self) -> Standing:
        """Where it is once it has begun to fetch everything again."""
        return Standing(dict.fromkeys(self.cursors, 0), self.filling, True)


def demand_readable(feed: Feed) -> None:
    """Raises BundleRefused unless every page can be read."""
    try:
        for raw in feed.pages:
            page = read_page(raw)
            for name in page.tables.keys() & TABLES.keys():
                decode_block(TABLES[name], page.tables[name])
    except BlockError as error:
        raise BundleRefused(
            "bundle_damaged", "A page of the bundle cannot be read: it is of another version of Carrel, perhaps."
        ) from error


def read_page(raw: msgspec.Raw) -> PullAnswer:
    """One page of a feed."""
    return from_json(bytes(raw), PullAnswer)


def judge(feed: Feed, standing: Standing) -> Use:
    """What to do with a feed. Raises BundleRefused (`bundle_stale`) for one that begins after what this device has."""
    if feed.head < max(standing.cursors.values(), default=0):
        return Use.LEAVE
    use = Use.APPLY
    if not standing.rebaselining and any(_is_too_old(feed, scope, cursor, standing) for scope, cursor in standing.cursors.items()):
        standing, use = standing.from_zero(), Use.APPLY_ANEW
    if any(since > standing.cursors.get(scope, 0) for scope, since in feed.since.items()):
        raise BundleRefused(
            "bundle_stale",
            "The bundle begins after what this device has. Export a bundle here and have the school answer it: the answer begins where it must.",
        )
    return use


def _is_too_old(feed: Feed, scope: str, cursor: int, standing: Standing) -> bool:
    """Whether deletions are missing between the cursor and what the feed still tells of them."""
    return scope in feed.since and feed.since[scope] < cursor < feed.tombstone_floor and scope not in standing.filling


def apply_page(conn: sqlite3.Connection, page: PullAnswer, now_ms: int) -> tuple[int, bool]:
    """Applies one page with its cursors, in the caller's write: the number of rows, and whether this device has lost a scope by it."""
    held = inbox.read_cursors(conn)
    page = msgspec.structs.replace(
        page,
        tables=beyond(page.tables, held),
        tombstones=[t for t in page.tombstones if t.feed_no > held.get(t.scope, 0)],
        cursors={scope: max(cursor, held.get(scope, 0)) for scope, cursor in page.cursors.items()},
        gained=sorted(page.cursors.keys() - held.keys()),
        lost=sorted(held.keys() - page.cursors.keys()),
    )
    return inbox.apply_page(conn, page, now_ms), bool(page.lost)


def beyond(tables: Mapping[str, TableBlock], held: Mapping[str, int]) -> dict[str, TableBlock]:
    """What lies beyond the cursors of its scopes: a row that a cursor has passed is here, or was deleted since."""
    return {name: narrowed for name, block in tables.items() if (narrowed := _narrowed(name, block, held))}


def _narrowed(name: str, block: TableBlock, held: Mapping[str, int]) -> TableBlock | None:
    """The rows of a block that lie beyond the cursors of their scopes; None if there are none."""
    if name not in TABLES:
        return block
    table = TABLES[name]
    numbers = decode_column(Kind.INTEGER, block.columns["feed_no"], block.n)
    places = [at for at, (number, scope) in enumerate(zip(numbers, _scopes(table, block), strict=True)) if number > held.get(scope, 0)]
    if len(places) == block.n:
        return block
    return (
        TableBlock(len(places), {n: _taken(table, n, column, block.n, places) for n, column in block.columns.items()}) if places else None
    )


def _scopes(table: Table, block: TableBlock) -> list[str]:
    """The scope of each row of a block."""
    if table.scope_column is None:
        return [str(ScopeKind.SCHOOL)] * block.n
    return [f"{table.scope}:{subject}" for subject in decode_column(Kind.ID, block.columns[table.scope_column], block.n)]


def _taken(table: Table, name: str, column: object, count: int, places: Sequence[int]) -> list[object]:
    kind = table.column(name).kind if name in table.column_names else Kind.JSON
    values = decode_column(kind, column, count)
    return [values[at] for at in places]
