"""Fetching what others changed: page after page, each applied with its cursors in one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from daemon import inbox, outbox
from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway
from daemon.identity import DeviceIdentity, Identity
from domain.blocks import BlockError
from domain.clock import Clock
from domain.errors import CloudUnreachable
from domain.wire import PAGE_ROWS_MAX, PROTOCOL_VERSION, PullAnswer, PullRequest


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one page came to. `more` says that the server has another."""

    rows: int
    more: bool
    poll_after_s: float | None = None


class Puller:
    """Pulls pages of at most `page_rows` rows."""

    def __init__(self, database: DeviceDatabase, identity: Identity, clock: Clock, page_rows: int = PAGE_ROWS_MAX) -> None:
        self._database, self._identity, self._clock, self._page_rows = database, identity, clock, page_rows

    def pull_page(self, gateway: CloudGateway, identity: DeviceIdentity) -> Pulled:
        """Fetches and applies the next page. Raises CloudUnreachable when there is none to apply; nothing has changed then."""
        with self._database.read() as conn:
            place = outbox.progress(conn)
            cursors = inbox.read_cursors(conn)
        if place is None:
            return Pulled(0, more=False)
        request = PullRequest(PROTOCOL_VERSION, place.incarnation, cursors, place.acked_op_no - place.seq_base, self._page_rows)
        try:
            page = gateway.pull(self._identity.token(), request)
        except CloudUnreachable as refusal:
            if refusal.remote_code != "ahead":
                raise
            self._database.write(lambda conn: self._identity.start_incarnation(conn, resend_all=True))
            return Pulled(0, more=True)
        if page.server_epoch != identity.server_epoch:
            self._database.write(lambda conn: self._identity.follow_epoch(conn, page.server_epoch))
            self._identity.forget_cached()
            return Pulled(0, more=True)
        try:
            rows = self._database.write(lambda conn: self._apply(conn, page, place.incarnation))
        except BlockError as error:
            raise CloudUnreachable("bad_answer", "The school's server sent a page that cannot be read.") from error
        if rows is None:
            return Pulled(0, more=True)
        return Pulled(rows, page.has_more, page.poll_after_s)

    def _apply(self, conn: sqlite3.Connection, page: PullAnswer, incarnation: str) -> int | None:
        """The number of rows applied. None, with nothing changed, when this device was enrolled again since the page was asked for."""
        now = outbox.progress(conn)
        if now is None or now.incarnation != incarnation:
            return None
        rows = inbox.apply_page(conn, page, self._clock.now_ms())
        if page.lost:
            # What this log wrote went with the scope. Should the scope come back, the server must not leave it out as known.
            self._identity.start_incarnation(conn, resend_all=False)
        return rows
