"""The feed for a bundle: the pages of a pull, one after the other, all of one snapshot, as far as they fit.

Nothing is left out as the device's own: by stick nobody knows what the device has learnt of its rows meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from cloud_api.database import Cursor, one_row
from cloud_api.devices.auth import Device, scopes_of
from cloud_api.sync.pull import give_page_to
from domain.bodies import to_json
from domain.bundle import Feed
from domain.clock import Clock
from domain.errors import SyncRefused
from domain.wire import PAGE_ROWS_MAX, PullAnswer, PullRequest

# A page as JSON. Smaller than online, where the next one is on its way meanwhile: a device holds the whole bundle in its memory beside it.
PAGE_BYTES_MAX = 1024 * 1024
# No incarnation's last operation.
_NONE_KNOWN = -1


@dataclass(frozen=True, slots=True)
class Gathered:
    """A feed, what is in it, whether there is more, and whether the device had seen numbers that this server has not given (`ahead`)."""

    feed: Feed | None = None
    rows: int = 0
    more: bool = False
    ahead: bool = False


def gather_feed(cursor: Cursor, device: Device, asked: PullRequest, clock: Clock, limit_bytes: int) -> Gathered:
    """Pages from the cursors of `asked`, or from 0 where the server cannot tell any more what has changed since; in the caller's snapshot."""
    granted = scopes_of(cursor, device)
    cursors = {scope: asked.cursors.get(scope, 0) for scope in granted}
    request = msgspec.structs.replace(asked, cursors=cursors, acked_seq=_NONE_KNOWN, page_rows=PAGE_ROWS_MAX)
    try:
        return _gather(cursor, device, request, clock, limit_bytes)
    except SyncRefused as refusal:
        anew = msgspec.structs.replace(request, cursors=dict.fromkeys(granted, 0), rebaselining=True)
        return replace(_gather(cursor, device, anew, clock, limit_bytes), ahead=refusal.code == "ahead")


def _gather(cursor: Cursor, device: Device, request: PullRequest, clock: Clock, limit_bytes: int) -> Gathered:
    since, pages, rows = request.cursors, list[msgspec.Raw](), 0
    more = True
    while more:
        page, plain = _page(cursor, device, request, clock)
        if len(plain) > limit_bytes:
            break
        pages.append(msgspec.Raw(plain))
        limit_bytes -= len(plain)
        rows += sum(block.n for block in page.tables.values()) + len(page.tombstones)
        more = page.has_more
        # What follows has been begun in this snapshot: nothing of it can be too old.
        request = msgspec.structs.replace(request, cursors=page.cursors, rebaselining=True)
    if not pages:
        return Gathered(more=True)
    cursor.execute("SELECT head, tombstone_floor FROM schools WHERE id = %s", (device.school_id,))
    head, floor = one_row(cursor)
    return Gathered(Feed(since, head, floor, pages), rows, more)


def _page(cursor: Cursor, device: Device, request: PullRequest, clock: Clock) -> tuple[PullAnswer, bytes]:
    """The next page and its JSON, with fewer rows where it would be too large."""
    while True:
        page = give_page_to(cursor, device, request, clock, 0.0)
        plain = to_json(page)
        if len(plain) <= PAGE_BYTES_MAX or request.page_rows == 1:
            return page, plain
        request = msgspec.structs.replace(request, page_rows=max(1, request.page_rows // 4))
