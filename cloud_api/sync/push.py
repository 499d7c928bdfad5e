"""Receiving a push: one transaction a batch (docs/protocol.md, "Push").

lock the device → find its place in the log → decode → judge → take feed numbers → apply run by run → keep dead letters → move its place
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from psycopg2.extras import execute_values

from cloud_api.auth import Device, device_for
from cloud_api.sync import feed
from cloud_api.sync.batch import Batch, DecodedPush, DecodedRun, judge_by_registry
from cloud_api.sync.clocks import CorrectionRange, judge_clocks, stored_correction
from cloud_api.sync.grants import Writer, judge_by_grants
from cloud_api.sync.insert import FeedRange, Target, insert_run, same_content
from cloud_api.sync.merge import Merger, keep_losers
from cloud_api.sync.rows import fetch_rows
from domain.clock import Clock
from domain.device_clock import device_offset_ms
from domain.errors import SyncRefused
from domain.ids import Id, derived_id
from domain.operations import CHAIN_START, Rejection, Verdict
from domain.registry import TABLES, Policy
from domain.wire import Limits, OperationVerdict, PushAnswer, PushRequest


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far the server has a device's log under one incarnation."""

    no: int
    last_seq: int
    chain: bytes


@dataclass(slots=True)
class Settled:
    """What became of a batch, besides its refusals."""

    feed: list[FeedRange]
    duplicates: list[int]
    losing: list[int]
    corrections: list[CorrectionRange]


class PushReceiver:
    """Applies pushes. `ids` makes ids for dead letters and conflicts; `poll_after_s` is what devices are told to wait."""

    def __init__(self, clock: Clock, ids: Callable[[], Id], limits: Limits, poll_after_s: float) -> None:
        self._clock, self._ids, self._limits, self._poll_after_s = clock, ids, limits, poll_after_s

    def receive(self, cursor: Any, token: str, push: DecodedPush) -> PushAnswer:
        """Settles every operation of the push in the caller's transaction; may be called again for the same push in another.

        Raises NotSignedIn or Forbidden for the token, SyncRefused when the device's place in its log is not the server's.
        """
        now_ms = self._clock.now_ms()
        request, batch = push.request, push.batch()
        device = device_for(cursor, token, lock=True)
        place = _place_of(cursor, device, request, push.chain_before, now_ms)
        _check_continuity(batch, place, push.chain_before)
        settled = self._apply(cursor, device, place, batch, request, now_ms)
        _keep_dead_letters(cursor, device, request, batch, place, now_ms)
        acked, chain = _move_place(cursor, device, place, batch, request, now_ms)
        return self._answer(cursor, batch, place, settled, acked, chain, now_ms)

    def _apply(self, cursor: Any, device: Device, place: LogPlace, batch: Batch, request: PushRequest, now_ms: int) -> Settled:
        settled = Settled([], [], [], [])
        new: list[DecodedRun] = []
        for run in batch.runs:
            known = min(max(place.last_seq + 1 - run.first_seq, 0), run.count)
            if known:
                _settle_known(cursor, device, request.incarnation, batch, run, known, settled)
            if known < run.count:
                new.append(run.slice_from(known))
        judge_by_registry(batch, new)
        judge_clocks(new, request.clock, now_ms)
        writer = Writer(device.school_id, device.id)
        judge_by_grants(cursor, batch, new, writer)
        _forgive_stored(cursor, device, batch, new)
        count = batch.last_seq - max(place.last_seq, batch.first_seq - 1)
        if any(seq not in batch.refusals for run in new for seq in range(run.first_seq, run.first_seq + run.count)):
            first_new = batch.last_seq - count + 1
            target = Target(device.school_id, place.no, first_new, feed.take(cursor, device.school_id, count))
            for run in new:
                self._apply_run(cursor, writer, target, batch, run, settled, now_ms)
        return settled

    def _apply_run(self, cursor: Any, writer: Writer, target: Target, batch: Batch, run: DecodedRun, settled: Settled, now_ms: int) -> None:
        table = run.table
        if table is None or all(seq in batch.refusals for seq in range(run.first_seq, run.first_seq + run.count)):
            return
        if table.policy is Policy.APPEND_ONLY:
            inserted = insert_run(cursor, target, batch, run)
            settled.feed.extend(inserted.feed)
            settled.duplicates.extend(inserted.duplicates)
            settled.corrections.extend(inserted.corrections)
            return
        merged = Merger(cursor, target, batch, run, table, writer, now_ms).merge()
        keep_losers(cursor, target, writer, table, merged.losers, self._ids, now_ms)
        settled.duplicates.extend(merged.duplicates)
        settled.losing.extend(merged.losing)

    def _answer(self, cursor: Any, batch: Batch, place: LogPlace, settled: Settled, acked: int, chain: bytes, now_ms: int) -> PushAnswer:
        verdicts = [OperationVerdict(seq, Verdict.DUPLICATE.value) for seq in settled.duplicates if seq not in batch.refusals]
        verdicts += [OperationVerdict(seq, Verdict.MERGED.value) for seq in settled.losing if seq not in batch.refusals]
        verdicts += [OperationVerdict(s, Verdict.REJECTED.value, r.code.value, r.message) for s, r in batch.refusals.items()]
        cursor.execute("SELECT epoch FROM server_state")
        return PushAnswer(
            acked_through=acked,
            chain=chain.hex(),
            verdicts=sorted(verdicts, key=lambda v: v.seq),
            feed=settled.feed,
            server_time_ms=now_ms,
            server_epoch=cursor.fetchone()[0],
            limits=self._limits,
            poll_after_s=self._poll_after_s,
            corrections=settled.corrections,
        )


def _place_of(cursor: Any, device: Device, request: PushRequest, chain_before: bytes, now_ms: int) -> LogPlace:
    """The server's place in this incarnation's log; a log that begins is given one."""
    key = (device.school_id, device.id, request.incarnation)
    cursor.execute("SELECT no, last_seq, chain FROM device_incarnations WHERE school_id = %s AND device_id = %s AND incarnation = %s", key)
    row = cursor.fetchone()
    if row is None and request.first_seq == 1 and chain_before == CHAIN_START:
        cursor.execute(
            "INSERT INTO device_incarnations (school_id, device_id, incarnation, chain, started_at_ms) VALUES (%s, %s, %s, %s, %s)"
            " RETURNING no, last_seq, chain",
            (*key, CHAIN_START, now_ms),
        )
        row = cursor.fetchone()
    if row is None:
        raise SyncRefused("ahead", "This server has never seen the operations before these.")
    return LogPlace(row[0], row[1], bytes(row[2]))


def _check_continuity(batch: Batch, place: LogPlace, chain_before: bytes) -> None:
    """Whether the batch continues, or repeats, the log that the server knows (docs/protocol.md, "Identity")."""
    before = batch.first_seq - 1
    if before > place.last_seq:
        raise SyncRefused("ahead", f"This server has this log up to {place.last_seq} only.")
    if batch.last_seq < place.last_seq:
        raise SyncRefused("behind", f"This server has this log up to {place.last_seq} already.")
    at_place = chain_before if before == place.last_seq else batch.chains[place.last_seq - batch.first_seq]
    if at_place != place.chain:
        raise SyncRefused("fork", "Another copy of this device has written a different log.")


def _settle_known(cursor: Any, device: Device, incarnation: str, batch: Batch, run: DecodedRun, count: int, settled: Settled) -> None:
    """Operations that an earlier request has settled, whose answer was lost: what was rejected is so again, everything else is a duplicate,
    with the number that its row has.
    """
    seqs = range(run.first_seq, run.first_seq + count)
    cursor.execute(
        "SELECT seq, code, message FROM dead_letters WHERE school_id = %s AND incarnation = %s AND id = ANY(%s::uuid[])",
        (device.school_id, incarnation, [_letter_id(device, op_id) for op_id in run.op_ids[:count]]),
    )
    for seq, code, message in cursor.fetchall():
        batch.refuse(seq, Rejection(code), message)
    settled.duplicates.extend(seqs)
    table = TABLES.get(run.table_name)
    if table is None or table.policy is not Policy.APPEND_ONLY:
        return
    stored = fetch_rows(cursor, table, device.school_id, run.row_ids[:count])
    for seq, row_id in zip(seqs, run.row_ids, strict=False):
        if (row := stored.get(row_id)) and seq not in batch.refusals:
            settled.feed.append((seq, seq, row["feed_no"]))
            settled.corrections.extend(stored_correction(seq, row))


def _forgive_stored(cursor: Any, device: Device, batch: Batch, runs: Sequence[DecodedRun]) -> None:
    """A row that is here already with equal content breaks no rule, whatever the device may hold by now: it sends again what was lost."""
    for run in runs:
        refused = [seq for seq in range(run.first_seq, run.first_seq + run.count) if _not_granted(batch, seq)]
        if not refused or run.table is None or run.table.policy is not Policy.APPEND_ONLY:
            continue
        stored = fetch_rows(cursor, run.table, device.school_id, [run.row_ids[seq - run.first_seq] for seq in refused])
        for seq in refused:
            row = stored.get(run.row_ids[seq - run.first_seq])
            if row and same_content(run.table, run, seq - run.first_seq, row):
                del batch.refusals[seq]


def _not_granted(batch: Batch, seq: int) -> bool:
    refusal = batch.refusals.get(seq)
    return refusal is not None and refusal.code is Rejection.NOT_GRANTED


def _keep_dead_letters(cursor: Any, device: Device, request: PushRequest, batch: Batch, place: LogPlace, now_ms: int) -> None:
    letters = [
        (run, seq - run.first_seq, batch.refusals[seq])
        for run in batch.runs
        for seq in range(run.first_seq, run.first_seq + run.count)
        if seq in batch.refusals and seq > place.last_seq
    ]
    if not letters:
        return
    execute_values(
        cursor,
        "INSERT INTO dead_letters (school_id, id, device_id, incarnation, seq, table_name, row_id, kind, schema_version, hlc, wall_ms,"
        " payload, code, message, received_at_ms) VALUES %s ON CONFLICT (school_id, id) DO UPDATE SET incarnation = excluded.incarnation,"
        " seq = excluded.seq, code = excluded.code, message = excluded.message",
        list(
            {
                run.op_ids[at]: _letter(device, request, run, at, refusal.code.value, refusal.message, now_ms)
                for run, at, refusal in letters
            }.values()
        ),
    )


def _letter_id(device: Device, op_id: str) -> Id:
    """An operation of one device has one letter, however often it is sent; two devices may have used one id for different rows."""
    return derived_id("dead letter", device.id, op_id)


def _letter(device: Device, request: PushRequest, run: DecodedRun, at: int, code: str, message: str, now_ms: int) -> Sequence[Any]:
    payload = msgspec.json.encode(run.payload(at)).decode()
    return (
        device.school_id,
        _letter_id(device, run.op_ids[at]),
        device.id,
        request.incarnation,
        run.first_seq + at,
        run.table_name[:100].replace("\x00", ""),
        run.row_ids[at],
        run.kind[:100].replace("\x00", ""),
        min(max(run.schema, 0), 2**31 - 1),
        run.hlcs[at],
        run.wall_ms[at],
        payload,
        code,
        message,
        now_ms,
    )


def _move_place(cursor: Any, device: Device, place: LogPlace, batch: Batch, request: PushRequest, now_ms: int) -> tuple[int, bytes]:
    chain = batch.chains[-1]
    cursor.execute(
        "UPDATE device_incarnations SET last_seq = %s, chain = %s WHERE school_id = %s AND no = %s",
        (batch.last_seq, chain, device.school_id, place.no),
    )
    cursor.execute(
        "UPDATE devices SET last_seen_ms = %s, clock_offset_ms = %s WHERE school_id = %s AND id = %s",
        (now_ms, device_offset_ms(request.clock, now_ms), device.school_id, device.id),
    )
    return batch.last_seq, chain
