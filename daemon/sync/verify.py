"""Comparing this device with its school, and fetching the rows again that differ (docs/protocol.md, "Agreement").

    sums of every table and scope ──▶ equal: done
                 │ differ
                 ▼
    256 sums of that place ──▶ ids and hashes of the rows in the buckets that differ ──▶ those rows ──▶ written ──▶ sums again

Nothing is wiped. Both versions of what differed are kept in a file for whoever wants to know why; the log has counts only.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway
from daemon.identity.device import DeviceIdentity, Identity
from daemon.queue import outbox
from daemon.sync import agreement
from daemon.sync.agreement import Repair
from daemon.sync.verify_report import Report
from domain.agreement import (
    BUCKETS,
    Outcome,
    Result,
    Sum,
    compare,
    differences,
    differing_buckets,
    result_of,
)
from domain.blocks import BlockError
from domain.clock import Clock
from domain.errors import CloudUnreachable
from domain.registry import SCHEMA_VERSION, TABLES
from domain.wire import PROTOCOL_VERSION, VERIFY_KEYS_MAX, VERIFY_PLACES_MAX, VERIFY_ROWS_MAX, Place, PlaceSums, VerifyAnswer, VerifyRequest
from loglines.parts import fields

log = logging.getLogger(__name__)

# Rows that one verification puts right; what is left is left to the next, which follows soon.
REPAIRED_ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification came to: `result` as `status` shows it, the tables and scopes compared and those of them that differed at first, the
    rows written and removed, and those that the school lacks and this device keeps.
    """

    result: Result
    places: int = 0
    differed: int = 0
    repaired: int = 0
    kept: int = 0
    message: str | None = None


@dataclass(slots=True)
class _Run:
    """One verification under way."""

    gateway: CloudGateway
    identity: DeviceIdentity
    token: str
    incarnation: str
    content: bool
    report: Report
    repaired: int = 0
    kept: int = 0
    resend: bool = False


class _Moved(Exception):
    """The server or this device's identity is another than when the comparison began."""


class Verifier:
    """Verifies one device. The caller keeps rounds away meanwhile, and has just pulled everything."""

    def __init__(self, database: DeviceDatabase, identity: Identity, clock: Clock) -> None:
        self._database, self._identity, self._clock = database, identity, clock

    def verify(self, gateway: CloudGateway, identity: DeviceIdentity, *, content: bool) -> Verified:
        """Compares, repairs, compares what differed again, and writes the result down.

        Raises CloudUnreachable when the server gives no usable answer: then nothing is written down, and what was repaired stays so.
        """
        with self._database.read() as conn:
            progress = outbox.progress(conn)
            if progress is None or not agreement.is_settled(conn):
                return Verified(Result.INCONCLUSIVE, message="Something is still on its way.")
            places = agreement.followed_places(conn)
            ours = agreement.held_sums(conn, places, content=content)
        report = Report(self._database.path.parent, self._clock.now_ms(), content)
        run = _Run(gateway, identity, self._identity.token(), progress.incarnation, content, report)
        try:
            outcomes = self._compare(run, places, ours)
            differing = [place for place, outcome in outcomes.items() if outcome is Outcome.MISMATCH]
            for place in differing:
                self._repair(run, place)
            if differing:
                outcomes |= self._compare_again(run, differing)
        except _Moved:
            return self._conclude(run, Verified(Result.INCONCLUSIVE, len(places), message="Something changed meanwhile."))
        result = result_of(outcomes.values(), repaired=bool(differing))
        return self._conclude(run, Verified(result, len(places), len(differing), run.repaired, run.kept))

    def _compare(self, run: _Run, places: Sequence[Place], ours: dict[Place, Sum]) -> dict[Place, Outcome]:
        outcomes = {}
        for start in range(0, len(places), VERIFY_PLACES_MAX):
            part = places[start : start + VERIFY_PLACES_MAX]
            answer = self._ask(run, part, "sums")
            for place, theirs in zip(part, answer.places, strict=True):
                outcomes[place] = compare(ours[place], _sums(theirs, 1)[0], theirs.moved)
        return outcomes

    def _compare_again(self, run: _Run, places: Sequence[Place]) -> dict[Place, Outcome]:
        if run.resend:
            # What the server lacks is sent to it again, and everything pulled anew: only then can be said whether all is well.
            self._database.write(lambda conn: self._identity.start_incarnation(conn, resend_all=True))
            return dict.fromkeys(places, Outcome.MISMATCH)
        with self._database.read() as conn:
            ours = agreement.held_sums(conn, places, content=run.content)
        return self._compare(run, places, ours)

    def _repair(self, run: _Run, place: Place) -> None:
        """Finds the rows of a place that differ, and makes them what the server says. Ends early when the scope moves meanwhile."""
        with self._database.read() as conn:
            ours = agreement.held_bucket_sums(conn, place, content=run.content)
        theirs = self._ask(run, [place], "buckets").places[0]
        if theirs.moved:
            return
        wrong = differing_buckets(ours, _sums(theirs, BUCKETS))
        for buckets in _portions(wrong, theirs.counts):
            answer = self._ask(run, [place], "keys", buckets=buckets)
            versions = dict(zip(answer.keys, answer.hashes, strict=True))
            with self._database.read() as conn:
                found = differences(agreement.held_versions(conn, place, buckets, content=run.content), versions)
            run.report.count(place, found)
            ids = [*found.missing, *found.stale, *found.extra]
            for start in range(0, len(ids), VERIFY_ROWS_MAX):
                if run.repaired >= REPAIRED_ROWS_MAX or not self._fetch_again(run, place, ids[start : start + VERIFY_ROWS_MAX]):
                    return

    def _fetch_again(self, run: _Run, place: Place, ids: list[str]) -> bool:
        """Whether the rows were fetched: False when the scope has moved."""
        answer = self._ask(run, [place], "rows", ids=ids)
        if answer.places[0].moved:
            return False
        with self._database.read() as conn:
            before = agreement.stored_rows(conn, TABLES[place.table], ids)
        try:
            run.report.keep(place, ids, before, answer)
            repair = self._database.write(lambda conn: self._put_right(conn, run, place, ids, answer))
        except BlockError as error:
            raise CloudUnreachable("bad_answer", "The school's server sent rows that cannot be read.") from error
        run.repaired += repair.written + repair.removed
        run.kept += len(repair.kept)
        run.resend |= repair.resend
        return True

    def _put_right(self, conn: sqlite3.Connection, run: _Run, place: Place, ids: list[str], answer: VerifyAnswer) -> Repair:
        now = outbox.progress(conn)
        if now is None or now.incarnation != run.incarnation:
            raise _Moved  # enrolled again meanwhile
        return agreement.put_right(conn, place, ids, answer)

    def _ask(
        self, run: _Run, places: Sequence[Place], detail: str, *, buckets: Sequence[int] = (), ids: Sequence[str] = ()
    ) -> VerifyAnswer:
        request = VerifyRequest(
            PROTOCOL_VERSION, run.incarnation, list(places), detail, list(buckets), list(ids), run.content, SCHEMA_VERSION
        )
        answer = run.gateway.verify(run.token, request)
        if answer.server_epoch != run.identity.server_epoch:
            raise _Moved  # the next round follows the server into its new life
        if len(answer.places) != len(places) or len(answer.keys) != len(answer.hashes):
            raise CloudUnreachable("bad_answer", "The school's server answered something that was not asked.")
        return answer

    def _conclude(self, run: _Run, verified: Verified) -> Verified:
        def note(conn: sqlite3.Connection) -> None:
            agreement.note_result(conn, verified.result, self._clock.now_ms())

        self._database.write(note)
        if run.report.rows:
            run.report.write()
        level = logging.INFO if verified.result in (Result.MATCH, Result.INCONCLUSIVE) else logging.WARNING
        counts = fields(places=verified.places, differed=verified.differed, repaired=verified.repaired, kept=verified.kept)
        log.log(level, "verified: %s", verified.result.value, extra=counts)
        return verified


def _sums(found: PlaceSums, parts: int) -> list[Sum]:
    """The server's sums of a place; as many as were asked for, whatever it sent."""
    if found.moved:
        return [Sum()] * parts
    if not len(found.counts) == len(found.totals) == parts:
        raise CloudUnreachable("bad_answer", "The school's server answered something that was not asked.")
    return list(map(Sum, found.counts, found.totals))


def _portions(buckets: Sequence[int], counts: Sequence[int]) -> Iterator[list[int]]:
    """The buckets in parts of which one answer can hold all keys; a bucket that is larger stands alone."""
    portion: list[int] = []
    size = 0
    for bucket in buckets:
        if portion and size + counts[bucket] > VERIFY_KEYS_MAX:
            yield portion
            portion, size = [], 0
        portion.append(bucket)
        size += counts[bucket]
    if portion:
        yield portion
