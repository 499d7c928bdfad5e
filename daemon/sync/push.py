"""Sending the outbox: read a batch, send it, settle what the answer says. No transaction is held while the network is waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec

from daemon import inbox, outbox
from daemon.boot import boot_id
from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway
from daemon.identity import DeviceIdentity, Identity
from domain.blocks import encode_column
from domain.clock import Clock
from domain.errors import CloudUnreachable
from domain.operations import Operation, OperationKind, canonical_bytes, canonical_prefix, next_chain
from domain.registry import TABLES, Kind
from domain.wire import PROTOCOL_VERSION, ClockReading, Limits, PushRequest, Run

# Payloads carry their column names and columns do not: a batch of this many times the plain limit still fits as a rule.
_PAYLOAD_FACTOR = 3
# Server answers that mean: this device's log and the server's record of it have parted (docs/protocol.md, "Identity").
_PARTED = {"fork": False, "behind": False, "ahead": True}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What one batch came to. `more` says that operations are left."""

    operations: int
    rejected: int
    more: bool
    poll_after_s: float | None = None


class Pusher:
    """Sends batches within `limits`, which the server's answers and refusals adjust."""

    def __init__(self, database: DeviceDatabase, identity: Identity, clock: Clock, limits: Limits | None = None) -> None:
        self._database, self._identity, self._clock = database, identity, clock
        self._limits = limits or Limits()
        self._boot_id = boot_id()

    def push_batch(self, gateway: CloudGateway, identity: DeviceIdentity) -> Pushed:
        """Sends and settles the next batch. Raises CloudUnreachable when the server settles nothing; the batch stays queued then."""
        with self._database.read() as conn:
            place = outbox.progress(conn)
            if place is None:
                return Pushed(0, 0, more=False)
            limits = self._limits
            operations = outbox.next_operations(conn, place, limits.batch_ops_max, limits.batch_bytes_max * _PAYLOAD_FACTOR)
        if not operations:
            return Pushed(0, 0, more=False)
        chain = _chain_after(place.chain, operations)
        try:
            answer = gateway.push(self._identity.token(), self._request(place, operations))
        except CloudUnreachable as refusal:
            return self._after_refusal(refusal, len(operations))
        if answer.server_epoch != identity.server_epoch:
            self._follow_epoch(answer.server_epoch)
            return Pushed(0, 0, more=True)
        if answer.acked_through != operations[-1].seq or answer.chain != chain.hex():
            raise CloudUnreachable("bad_answer", "The school's server acknowledged something that was not sent.")
        now_ms = self._clock.now_ms()

        def settle(conn: Any) -> int:
            rejected = outbox.settle(conn, place, answer.acked_through, chain, answer.verdicts, answer.feed, now_ms)
            inbox.release_shadows(conn)
            return rejected

        rejected = self._database.write(settle)
        self._limits = answer.limits
        return Pushed(len(operations), rejected, more=len(operations) >= limits.batch_ops_max, poll_after_s=answer.poll_after_s)

    def _request(self, place: outbox.Progress, operations: Sequence[Operation]) -> PushRequest:
        reading = ClockReading(self._clock.now_ms(), self._clock.monotonic_ms(), self._boot_id)
        return PushRequest(PROTOCOL_VERSION, place.incarnation, operations[0].seq, place.chain.hex(), reading, encode_runs(operations))

    def _after_refusal(self, refusal: CloudUnreachable, sent: int) -> Pushed:
        if refusal.remote_code in _PARTED:
            resend_all = _PARTED[refusal.remote_code]
            self._database.write(lambda conn: self._identity.start_incarnation(conn, resend_all=resend_all))
            return Pushed(0, 0, more=True)
        if refusal.reason == "too_large" and sent > 1:
            self._limits = Limits(max(1, sent // 2), self._limits.batch_bytes_max)
            return Pushed(0, 0, more=True)
        raise refusal

    def _follow_epoch(self, epoch: str) -> None:
        self._database.write(lambda conn: self._identity.follow_epoch(conn, epoch))
        self._identity.forget_cached()


def encode_runs(operations: Sequence[Operation]) -> list[Run]:
    """The operations, in order, as runs of the same table, kind, schema version and fields."""
    payloads: list[dict[str, Any]] = msgspec.json.decode(b"[" + b",".join([op.payload for op in operations]) + b"]")
    both = zip(operations, payloads, strict=True)
    runs = groupby(both, key=lambda pair: (pair[0].table, pair[0].kind, pair[0].schema, tuple(pair[1])))
    return [_encode_run(*key, *zip(*pairs, strict=True)) for key, pairs in runs]


def _encode_run(
    table: str, kind: str, schema: int, names: Sequence[str], operations: Sequence[Operation], payloads: Sequence[dict[str, Any]]
) -> Run:
    kinds = {c.name: c.kind for c in TABLES[table].columns} if table in TABLES else {}
    return Run(
        table=table,
        kind=kind,
        schema=schema,
        n=len(operations),
        rows=encode_column(Kind.ID, [op.row_id for op in operations]),
        ops=None if kind == OperationKind.INSERT else encode_column(Kind.ID, [op.op_id for op in operations]),
        wall_ms=encode_column(Kind.INTEGER, [op.wall_ms for op in operations]),
        mono_ms=encode_column(Kind.INTEGER, [op.mono_ms for op in operations]),
        boot=encode_column(Kind.TEXT, [op.boot_id for op in operations]),
        hlc=encode_column(Kind.INTEGER, [op.hlc for op in operations]),
        fields={name: encode_column(kinds.get(name, Kind.JSON), [p[name] for p in payloads]) for name in names},
    )


def _chain_after(chain: bytes, operations: Sequence[Operation]) -> bytes:
    """The chain after the operations; their stored payloads are the canonical text."""
    for op in operations:
        prefix = canonical_prefix(op.table, op.kind, op.schema)
        chain = next_chain(chain, canonical_bytes(prefix, op.seq, op.op_id, op.row_id, op.hlc, op.wall_ms, op.payload))
    return chain
