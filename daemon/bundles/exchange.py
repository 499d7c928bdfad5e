"""Sync by stick, the device's side: what would be pushed, as one body; the school's answers and feed, applied (docs/bundles.md).

Bodies only: `daemon/commands/bundle.py` seals and opens them. An answer settles operations only while this device's log is the one that the server has
answered, which the chain tells; and no sync round runs meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from daemon import inbox
from daemon.bundles import carried_feed
from daemon.bundles.carried_feed import Standing, Use
from daemon.database import DeviceDatabase
from daemon.identity.boot import boot_id
from daemon.identity.device import Identity
from daemon.identity.instance import identity_row
from daemon.queue import outbox, settlement
from daemon.queue.outbox import Progress
from daemon.queue.unreadable import set_aside_unreadable, unreadable
from daemon.sync.pull import next_request
from daemon.sync.push import chain_after, encode_runs
from domain.bodies import from_json, to_json
from domain.bundle import FRAME_BYTES_MAX, PLAIN_BYTES_MAX, Answered, FromDevice, FromSchool
from domain.clock import Clock
from domain.errors import BundleRefused, NotEnrolled, Unavailable
from domain.operations import Operation, OperationKind
from domain.wire import BATCH_BYTES_MAX, BATCH_OPS_MAX, PROTOCOL_VERSION, ClockReading, PushAnswer, PushRequest

T = TypeVar("T")

# Payloads carry their column names and columns do not (daemon/sync/push.py).
_PAYLOAD_BYTES_MAX = 3 * BATCH_BYTES_MAX
_NO_LIMIT = 2**62


class Rounds(Protocol):
    """What is needed of the sync rounds (daemon/sync/round.py)."""

    def between_rounds(self, act: Callable[[], T]) -> T: ...

    def server_now_ms(self) -> int | None: ...


class NoRounds:
    """While no daemon runs there are none, and nobody has heard of the server's time."""

    def between_rounds(self, act: Callable[[], T]) -> T:
        return act()

    def server_now_ms(self) -> int | None:
        return None


@dataclass(frozen=True, slots=True)
class Parties:
    """Between whom bundles travel: this device of its school, and the public halves of its server's keys, in hex; null where it has none."""

    device_id: str
    school_id: str
    server_verify_key: str | None
    server_seal_key: str | None


@dataclass(frozen=True, slots=True)
class Collected:
    """The body of a bundle: the operations in it, how many of them are answers of students, and how many more did not fit."""

    body: bytes
    operations: int
    answers: int
    left: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What a bundle of the school's came to: operations settled, and refused among them; rows applied, and whether there are more.

    `anew` says that this device's log began anew, `older` that the feed was older than what is here and was left out.
    """

    settled: int
    rejected: int
    rows: int
    more: bool
    anew: bool
    older: bool


class _Step(NamedTuple):
    """One answer that settles something: the log's place before and after it."""

    before: Progress
    after: Progress
    answer: PushAnswer


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a bundle's taking consists of, worked out before anything is changed."""

    steps: Sequence[_Step]
    renew: Callable[[sqlite3.Connection], None] | None
    pages: Sequence[msgspec.Raw]
    older: bool


class DeviceBundles:
    """The bundles of one device."""

    def __init__(self, database: DeviceDatabase, identity: Identity, clock: Clock, rounds: Rounds) -> None:
        self._database, self._identity, self._clock, self._rounds = database, identity, clock, rounds

    def parties(self) -> Parties:
        """Raises NotEnrolled."""
        with self._database.read() as conn:
            row = identity_row(conn)
        if row is None:
            raise NotEnrolled()
        return Parties(*(row[name] for name in Parties.__match_args__))

    def collect(self) -> Collected:
        """Everything that is not known to be settled, as it would be pushed now, and how far this device has pulled.

        What no server can read would keep the rest out: it is set aside first, as a push would do (daemon/sync/push.py). Raises NotEnrolled, and
        Unavailable when that has to wait too long for a sync round.
        """
        with self._database.read() as conn:
            spoiling = unreadable(conn)
        if spoiling:
            self._rounds.between_rounds(lambda: self._database.write(set_aside_unreadable, finishing=True))
        return self._collect()

    def _collect(self) -> Collected:
        identity = self._identity.current()
        pull = next_request(self._database, self._identity, self._clock.now_ms())
        if identity is None or pull is None:
            raise NotEnrolled()
        reading = ClockReading(self._clock.now_ms(), self._clock.monotonic_ms(), boot_id(), self._rounds.server_now_ms())
        pushes, left_bytes = list[msgspec.Raw](), PLAIN_BYTES_MAX - FRAME_BYTES_MAX
        operations = answers = 0
        with self._database.read() as conn:
            place = _place(conn)
            pull = msgspec.structs.replace(pull, incarnation=place.incarnation)
            while batch := outbox.next_operations(conn, place, BATCH_OPS_MAX, _PAYLOAD_BYTES_MAX):
                plain = to_json(_request(place, batch, reading))
                left_bytes -= len(plain)
                if left_bytes < 0:
                    break
                pushes.append(msgspec.Raw(plain))
                operations += len(batch)
                answers += sum(op.table == "question_attempts" and op.kind == OperationKind.INSERT for op in batch)
                place = _after(place, batch)
            left = outbox.counts(conn).pending - operations
        return Collected(to_json(FromDevice(identity.server_epoch, pull, pushes)), operations, answers, left)

    def take(self, body: bytes) -> Taken:
        """Settles and applies what a bundle of the school's holds; taken again it changes nothing.

        Raises NotEnrolled, BundleRefused, MalformedJson for a body of another version, all with nothing changed; Unavailable when the log began
        anew in the middle, or a sync round takes too long.
        """
        message = from_json(body, FromSchool)
        if message.feed is not None:
            carried_feed.demand_readable(message.feed)
        return self._rounds.between_rounds(lambda: self._take(message))

    def _take(self, message: FromSchool) -> Taken:
        with self._database.read() as conn:
            plan = self._plan(conn, message)
        rejected = sum(self._settle(step) for step in plan.steps)
        renew = plan.renew
        if renew is not None:
            self._database.write(self._without_outdated(renew), finishing=True)
            self._identity.forget_cached()
        rows = sum(self._apply(raw) for raw in plan.pages)
        more = bool(plan.pages) and carried_feed.read_page(plan.pages[-1]).has_more
        settled = plan.steps[-1].after.acked_op_no - plan.steps[0].before.acked_op_no if plan.steps else 0
        return Taken(settled, rejected, rows, more, renew is not None, plan.older)

    def _plan(self, conn: sqlite3.Connection, message: FromSchool) -> _Plan:
        identity = self._identity.current()
        if identity is None:
            raise NotEnrolled()
        place = _place(conn)
        if message.incarnation and message.incarnation != place.incarnation:
            raise BundleRefused("bundle_stale", "The bundle answers a log that this device has begun anew since. Export a new one here.")
        other_epoch = message.server_epoch != identity.server_epoch
        if other_epoch and not message.incarnation:
            raise BundleRefused(
                "bundle_stale", "The school's server was restored since: export a bundle here first, and import its answer."
            )
        steps = list(_steps(conn, place, message.answers)) if message.answers else []
        standing, renew = Standing.of(conn), self._renewal(message, other_epoch)
        if renew is not None and (other_epoch or message.parted == "ahead"):
            standing = standing.from_zero()
        if message.feed is None:
            return _Plan(steps, renew, (), False)
        use = carried_feed.judge(message.feed, standing)
        if use is Use.APPLY_ANEW:
            renew = self._identity.fetch_everything_again
        return _Plan(steps, renew, () if use is Use.LEAVE else message.feed.pages, use is Use.LEAVE)

    def _renewal(self, message: FromSchool, other_epoch: bool) -> Callable[[sqlite3.Connection], None] | None:
        """How the log is to begin anew, if it is (docs/protocol.md, "Identity")."""
        if other_epoch:
            return lambda conn: self._identity.follow_epoch(conn, message.server_epoch)
        if message.parted:
            return lambda conn: self._identity.start_incarnation(conn, resend_all=message.parted == "ahead")
        return None

    def _without_outdated(self, renew: Callable[[sqlite3.Connection], None]) -> Callable[[sqlite3.Connection], None]:
        now_ms = self._rounds.server_now_ms()

        def begin_anew(conn: sqlite3.Connection) -> None:
            outbox.forget_outdated(conn, now_ms)
            renew(conn)

        return begin_anew

    def _settle(self, step: _Step) -> int:
        now_ms = self._clock.now_ms()

        def settle(conn: sqlite3.Connection) -> int | None:
            rejected = settlement.settle(conn, step.before, step.after, step.answer, now_ms)
            inbox.release_shadows(conn)
            inbox.evict_leftovers(conn)
            return rejected

        rejected = self._database.write(settle, finishing=True)
        if rejected is None:
            raise Unavailable("This device's log began anew in the middle. Export a new bundle.")
        return rejected

    def _apply(self, raw: msgspec.Raw) -> int:
        page, now_ms = carried_feed.read_page(raw), self._clock.now_ms()

        def apply(conn: sqlite3.Connection) -> int:
            rows, lost = carried_feed.apply_page(conn, page, now_ms)
            if lost:  # as with a page from the network (daemon/sync/pull.py)
                self._identity.start_incarnation(conn, resend_all=False)
            return rows

        return self._database.write(apply)


def _place(conn: sqlite3.Connection) -> Progress:
    place = outbox.progress(conn)
    if place is None:
        raise NotEnrolled()
    return place


def _request(place: Progress, operations: Sequence[Operation], reading: ClockReading) -> PushRequest:
    return PushRequest(PROTOCOL_VERSION, place.incarnation, operations[0].seq, place.chain.hex(), reading, encode_runs(operations))


def _after(place: Progress, operations: Sequence[Operation]) -> Progress:
    return replace(place, acked_op_no=place.seq_base + operations[-1].seq, chain=chain_after(place.chain, operations))


def _steps(conn: sqlite3.Connection, place: Progress, answers: Sequence[msgspec.Raw]) -> Iterator[_Step]:
    """The answers that settle something beyond `place`, each cut to that. Raises BundleRefused when they answer another log."""
    for raw in answers:
        told = from_json(bytes(raw), Answered)
        acked_seq, through = place.acked_op_no - place.seq_base, told.answer.acked_through
        if through <= acked_seq:
            continue
        operations = outbox.next_operations(conn, place, through - acked_seq, _NO_LIMIT) if told.first_seq <= acked_seq + 1 else []
        if len(operations) != through - acked_seq or (after := _after(place, operations)).chain.hex() != told.answer.chain:
            raise BundleRefused("bundle_stale", "The bundle answers another log than this device's: its file was copied or restored.")
        yield _Step(place, after, _beyond(told.answer, acked_seq))
        place = after


def _beyond(answer: PushAnswer, acked_seq: int) -> PushAnswer:
    """What an answer says of operations behind `acked_seq`: of those before, something newer may be known."""
    feed = [(max(first, acked_seq + 1), last, number + max(0, acked_seq + 1 - first)) for first, last, number in answer.feed]
    corrections = [(max(first, acked_seq + 1), last, ms, doubtful) for first, last, ms, doubtful in answer.corrections]
    return msgspec.structs.replace(answer, feed=[r for r in feed if r[0] <= r[1]], corrections=[c for c in corrections if c[0] <= c[1]])
