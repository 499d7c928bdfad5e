"""Sending the outbox: read a batch, send it, settle what the answer says. No transaction is held while the network is waited for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from daemon import inbox
from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway
from daemon.identity.boot import boot_id
from daemon.identity.device import DeviceIdentity, Identity
from daemon.process import logs
from daemon.queue import outbox, settlement
from daemon.queue.outbox import Progress
from daemon.queue.unreadable import set_aside_unreadable
from daemon.sync.reporting import report_after
from daemon.sync.resending import begin_anew
from daemon.sync.server_time import ServerTime
from domain.blocks import Encoded, encode_column
from domain.clock import Clock
from domain.errors import BodyTooLarge, CloudUnreachable, InvalidInput, MalformedJson
from domain.operations import Operation, OperationKind, canonical_bytes, canonical_prefix, next_chain
from domain.registry import TABLES, Kind
from domain.wire import PROTOCOL_VERSION, ClockReading, Limits, PushAnswer, PushRequest, Run

# Payloads carry their column names and columns do not: a batch of this many times the plain limit still fits as a rule.
_PAYLOAD_FACTOR = 3
# Server answers that mean: this device's log and the server's record of it have parted (docs/protocol.md, "Identity").
_PARTED = {"fork": False, "behind": False, "ahead": True}
# Those that mean: something in this batch makes the request one that cannot be read. A server that fails (5xx) is waited for instead.
_REFUSED_WHOLE = (InvalidInput.code, MalformedJson.code, BodyTooLarge.code)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What sending one batch came to: operations settled, and how many of them the server rejected."""

    operations: int
    rejected: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch ready to be sent: `place` is the log's place before it, `after` the place once it is settled."""

    place: Progress
    after: Progress
    count: int
    request: PushRequest


class Pusher:
    """Sends batches within `limits`, which the server's answers and refusals adjust."""

    def __init__(
        self, database: DeviceDatabase, identity: Identity, clock: Clock, server_time: ServerTime, limits: Limits | None = None
    ) -> None:
        self._database, self._identity, self._clock, self._server_time = database, identity, clock, server_time
        self._limits = limits or Limits()
        self._boot_id = boot_id()

    def push_all(self, gateway: CloudGateway, identity: DeviceIdentity) -> Iterator[Pushed]:
        """Sends what is queued, batch by batch, yielding as each is settled.

        While the server works on one batch, the one before is settled here and the next prepared; one request at a time is under way. It ends
        when nothing is left, or with operations left when the log's place or the limits changed: then it is to be called again. Raises
        CloudUnreachable when the server settles nothing; what was not settled stays queued.
        """
        token = self._identity.token()
        with ThreadPoolExecutor(1, "push", logs.handed_on()) as sender:
            batch = self._prepare(None)
            answer = sender.submit(gateway.push, token, batch.request) if batch else None
            while batch and answer:
                following = self._prepare(batch.after)
                settled = self._accept(batch, answer, identity, gateway)
                if settled is None:
                    return
                answer = sender.submit(gateway.push, token, following.request) if following else None
                pushed = self._settle(batch, settled)
                if pushed is None:
                    return
                yield pushed
                batch = following

    def has_pending(self) -> bool:
        """Whether anything is queued."""
        with self._database.read() as conn:
            return outbox.counts(conn).pending > 0

    def _prepare(self, place: Progress | None) -> _Batch | None:
        """The batch after `place`, which defaults to the last settled one; None when nothing is left."""
        limits = self._limits
        with self._database.read() as conn:
            if (place := place or outbox.progress(conn)) is None:
                return None
            operations = outbox.next_operations(conn, place, limits.batch_ops_max, limits.batch_bytes_max * _PAYLOAD_FACTOR)
            if not operations:
                return None
            report = report_after(conn, place.seq_base + operations[-1].seq, self._clock.now_ms())
        encoded = self._encode(place, operations)
        if encoded is None:
            return self._prepare(place)
        runs, chain = encoded
        reading = ClockReading(self._clock.now_ms(), self._clock.monotonic_ms(), self._boot_id, self._server_time.now_ms())
        request = PushRequest(PROTOCOL_VERSION, place.incarnation, operations[0].seq, place.chain.hex(), reading, runs, report)
        after = replace(place, acked_op_no=place.seq_base + operations[-1].seq, chain=chain)
        return _Batch(place, after, len(operations), request)

    def _encode(self, place: Progress, operations: Sequence[Operation]) -> tuple[list[Run], bytes] | None:
        """The runs of a batch, and the chain after it; None when it held something that nobody can read, which has been set aside now."""
        try:
            return encode_runs(operations), chain_after(place.chain, operations)
        except (ValueError, LookupError, TypeError):
            if not self._set_aside_unreadable():
                raise
            return None

    def _set_aside_unreadable(self) -> int:
        return self._database.write(set_aside_unreadable, finishing=True)

    def _accept(self, batch: _Batch, sent: Future[PushAnswer], identity: DeviceIdentity, gateway: CloudGateway) -> PushAnswer | None:
        """The answer, if it settles the batch; None when the way to go on has changed."""
        try:
            answer = sent.result()
        except CloudUnreachable as refusal:
            self._heed(refusal, batch, gateway)
            return None
        self._server_time.heard(answer.server_time_ms)
        if answer.server_epoch != identity.server_epoch:
            begin_anew(self._database, self._server_time, lambda conn: self._identity.follow_epoch(conn, answer.server_epoch))
            self._identity.forget_cached()
            return None
        if answer.acked_through != batch.after.acked_op_no - batch.place.seq_base or answer.chain != batch.after.chain.hex():
            if self._set_aside_unreadable():  # the server has read something else than what is written here
                return None
            raise CloudUnreachable("bad_answer", "The school's server acknowledged something that was not sent.")
        return answer

    def _begin_anew(self, gateway: CloudGateway, *, resend_all: bool) -> None:
        if not resend_all:
            self._database.write(lambda conn: self._identity.start_incarnation(conn, resend_all=False), finishing=True)
            return
        if self._server_time.now_ms() is None and (found := gateway.head(self._identity.token(), None)):
            self._server_time.heard(found[0].server_time_ms)  # the refusal did not tell the time
        begin_anew(self._database, self._server_time, lambda conn: self._identity.start_incarnation(conn, resend_all=True))

    def _settle(self, batch: _Batch, answer: PushAnswer) -> Pushed | None:
        """None when the answer came too late: this device was enrolled again while it was on its way."""
        now_ms = self._clock.now_ms()

        def settle(conn: sqlite3.Connection) -> int | None:
            rejected = settlement.settle(conn, batch.place, batch.after, answer, now_ms)
            inbox.release_shadows(conn)
            inbox.evict_leftovers(conn)
            return rejected

        rejected = self._database.write(settle, finishing=True)
        self._limits = answer.limits
        return None if rejected is None else Pushed(batch.count, rejected)

    def _heed(self, refusal: CloudUnreachable, batch: _Batch, gateway: CloudGateway) -> None:
        """Adjusts to a refusal that says how to go on; raises any other.

        A batch that is refused whole is halved, down to the one operation that the server will not have: that is set aside, and the queue
        goes on. What a proxy before it finds too large waits until somebody has raised the proxy's limit.
        """
        if refusal.remote_code in _PARTED:
            self._begin_anew(gateway, resend_all=_PARTED[refusal.remote_code])
        elif refusal.reason != "too_large" and refusal.remote_code not in _REFUSED_WHOLE:
            raise refusal
        elif batch.count > 1:
            self._limits = Limits(max(1, batch.count // 2), self._limits.batch_bytes_max)
        elif batch.request.runs[0].kind == OperationKind.VOID or refusal.remote_code not in _REFUSED_WHOLE:
            raise refusal  # nothing smaller can be sent
        else:
            self._database.write(lambda conn: outbox.set_aside(conn, batch.place, batch.request.first_seq, refusal.message), finishing=True)


def encode_runs(operations: Sequence[Operation]) -> list[Run]:
    """The operations, in order, as runs of the same table, kind, schema version and fields."""
    payloads: list[dict[str, Any]] = msgspec.json.decode(f"[{','.join([op.payload for op in operations])}]")
    likeness = [(op.table, op.kind, op.schema, *payload) for op, payload in zip(operations, payloads, strict=True)]
    runs = []
    first = 0
    for _, like in groupby(likeness):
        last = first + sum(1 for _ in like)
        runs.append(_encode_run(operations[first:last], payloads[first:last]))
        first = last
    return runs


def _encode_run(operations: Sequence[Operation], payloads: Sequence[dict[str, Any]]) -> Run:
    columns = Operation(*zip(*operations, strict=True))  # type: ignore[arg-type]  # of columns, for once
    table, kind = operations[0].table, operations[0].kind
    kinds = {c.name: c.kind for c in TABLES[table].columns} if table in TABLES else {}
    return Run(
        table=table,
        kind=kind,
        schema=operations[0].schema,
        n=len(operations),
        rows=encode_column(Kind.ID, columns.row_id),
        ops=None if kind == OperationKind.INSERT else encode_column(Kind.ID, columns.op_id),
        wall_ms=encode_column(Kind.INTEGER, columns.wall_ms),  # type: ignore[arg-type]
        mono_ms=encode_column(Kind.INTEGER, columns.mono_ms),  # type: ignore[arg-type]
        boot=encode_column(Kind.TEXT, columns.boot_id),
        hlc=encode_column(Kind.INTEGER, columns.hlc),  # type: ignore[arg-type]
        fields={name: encode_column(kinds.get(name, Kind.JSON), list(map(itemgetter(name), payloads))) for name in payloads[0]},
        base=_encode_bases(columns.base),  # type: ignore[arg-type]
    )


def _encode_bases(bases: Sequence[str | None]) -> Encoded:
    """What the operations of a run have replaced, as a column; None for a run without any."""
    if not any(bases):
        return None
    return encode_column(Kind.JSON, [msgspec.json.decode(base) if base else None for base in bases])


def chain_after(chain: bytes, operations: Sequence[Operation]) -> bytes:
    """The chain after the operations; their stored payloads are the canonical text."""
    for op in operations:
        prefix = canonical_prefix(op.table, op.kind, op.schema)
        chain = next_chain(chain, canonical_bytes(prefix, op.seq, op.op_id, op.row_id, op.hlc, op.wall_ms, op.payload))
    return chain
