"""Fetching what others changed: page after page, each applied with its cursors in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import msgspec

from daemon import inbox
from daemon.database import DeviceDatabase
from daemon.erasure import orders
from daemon.gateway import CloudGateway
from daemon.identity.device import DeviceIdentity, Identity
from daemon.process import logs
from daemon.queue import outbox
from daemon.sync import offering
from daemon.sync.reporting import report_after
from daemon.sync.resending import begin_anew
from daemon.sync.server_time import ServerTime
from domain.blocks import BlockError
from domain.clock import Clock
from domain.errors import CloudUnreachable
from domain.wire import PAGE_ROWS_MAX, PROTOCOL_VERSION, PullAnswer, PullRequest


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one page came to. `more` says that the server has another."""

    rows: int
    more: bool


class Puller:
    """Pulls pages of at most `page_rows` rows."""

    def __init__(
        self, database: DeviceDatabase, identity: Identity, clock: Clock, server_time: ServerTime, page_rows: int = PAGE_ROWS_MAX
    ) -> None:
        self._database, self._identity, self._clock, self._server_time = database, identity, clock, server_time
        self._page_rows = page_rows

    def pull_all(self, gateway: CloudGateway, identity: DeviceIdentity) -> Iterator[Pulled]:
        """Fetches and applies page after page, yielding as each is applied. The next page is asked for while one is written.

        It ends when the server has no more, or with `more` set when the device's log or the server began anew: then it is to be called again.
        Raises CloudUnreachable when there is no page to apply; those before it stay.
        """
        token = self._identity.token()
        with ThreadPoolExecutor(1, "pull", logs.handed_on()) as fetcher:
            request = self._request()
            fetched = fetcher.submit(gateway.pull, token, request) if request else None
            while request and fetched:
                page = self._accept(fetched, identity)
                following = _following(request, page) if page else None
                fetched = fetcher.submit(gateway.pull, token, following) if following else None
                rows = self._write(page, request.incarnation) if page else None
                if page is None or rows is None:
                    yield Pulled(0, more=True)
                    return
                yield Pulled(rows, page.has_more)
                request = following

    def _request(self) -> PullRequest | None:
        """What comes after the cursors stored here; None on a device that was never enrolled."""
        return next_request(self._database, self._identity, self._clock.now_ms(), self._page_rows)

    def _accept(self, fetched: Future[PullAnswer], identity: DeviceIdentity) -> PullAnswer | None:
        """The page; None when everything is to be pulled anew."""
        try:
            page = fetched.result()
        except CloudUnreachable as refusal:
            if refusal.remote_code == "ahead":
                begin_anew(self._database, self._server_time, lambda conn: self._identity.start_incarnation(conn, resend_all=True))
            elif refusal.remote_code == "too_old":
                self._database.write(self._identity.fetch_everything_again, finishing=True)
            else:
                raise
            return None
        self._server_time.heard(page.server_time_ms)
        if page.server_epoch != identity.server_epoch:
            begin_anew(self._database, self._server_time, lambda conn: self._identity.follow_epoch(conn, page.server_epoch))
            self._identity.forget_cached()
            return None
        return page

    def _write(self, page: PullAnswer, incarnation: str) -> int | None:
        try:
            return self._database.write(lambda conn: self._apply(conn, page, incarnation))
        except BlockError as error:
            raise CloudUnreachable("bad_answer", "The school's server sent a page that cannot be read.") from error

    def _apply(self, conn: sqlite3.Connection, page: PullAnswer, incarnation: str) -> int | None:
        """The number of rows applied. None, with nothing changed, when this device was enrolled again since the page was asked for."""
        now = outbox.progress(conn)
        if now is None or now.incarnation != incarnation:
            return None
        rows = inbox.apply_page(conn, page, self._clock.now_ms())
        outbox.note_durable(conn, page.durable_through)
        if not page.has_more:
            inbox.settle_shadows(conn)
            offering.offer(conn, self._clock, page.server_time_ms)
        if page.lost:
            # What this log wrote went with the scope. Should the scope come back, the server must not leave it out as known.
            self._identity.start_incarnation(conn, resend_all=False)
        return rows


def next_request(database: DeviceDatabase, identity: Identity, now_ms: int, page_rows: int = PAGE_ROWS_MAX) -> PullRequest | None:
    """The request for what comes after the cursors in a device's database; None on a device that was never enrolled."""

    def begin_again(conn: sqlite3.Connection) -> None:
        anew = stale and inbox.forget_stale_filling(conn)
        if anew or absent:
            identity.start_incarnation(conn, resend_all=False)

    with database.read() as conn:
        stale, absent = inbox.is_filling_stale(conn, now_ms), outbox.has_absent(conn)
    if stale or absent:
        database.write(begin_again)
    with database.read() as conn:
        place = outbox.progress(conn)
        cursors = inbox.read_cursors(conn)
        anew, filling = inbox.is_rebaselining(conn), inbox.read_filling(conn)
        erased_through = orders.carried_out_through(conn)
        report = report_after(conn, place.acked_op_no, now_ms) if place else None
    own = identity.current()
    if place is None or own is None:
        return None
    acked_seq = place.acked_op_no - place.seq_base
    known = (cursors, acked_seq, page_rows, anew, filling, erased_through, own.server_epoch)
    return PullRequest(PROTOCOL_VERSION, place.incarnation, *known, report)


def _following(request: PullRequest, page: PullAnswer) -> PullRequest | None:
    """The request for the page after this one, before this one is written; None when there is none, or when it depends on the writing."""
    if not page.has_more or page.lost:
        return None
    filling = sorted({*request.filling, *page.gained})
    return msgspec.structs.replace(request, cursors={**request.cursors, **page.cursors}, filling=filling)
