"""Fetching what others changed: page after page, each applied with its cursors in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from daemon import inbox, outbox
from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway
from daemon.identity import DeviceIdentity, Identity
from domain.blocks import BlockError
from domain.clock import Clock
from domain.errors import CloudUnreachable
from domain.wire import PAGE_ROWS_MAX, PROTOCOL_VERSION, PullRequest


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
        page = gateway.pull(self._identity.token(), request)
        if page.server_epoch != identity.server_epoch:
            self._database.write(lambda conn: self._identity.follow_epoch(conn, page.server_epoch))
            self._identity.forget_cached()
            return Pulled(0, more=True)
        now_ms = self._clock.now_ms()
        try:
            rows = self._database.write(lambda conn: inbox.apply_page(conn, page, now_ms))
        except BlockError as error:
            raise CloudUnreachable("bad_answer", "The school's server sent a page that cannot be read.") from error
        return Pulled(rows, page.has_more, page.poll_after_s)
