"""Receiving a push: one transaction a batch (docs/protocol.md, "Push").

lock the device → find its place in the log → decode → judge → take feed numbers → apply run by run → keep dead letters → move its place
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cloud_api.devices.auth import Device, device_for
from cloud_api.fleet import hours, reports
from cloud_api.sync.apply import Applier, Origin, Settled
from cloud_api.sync.batch import Batch, DecodedPush, DecodedRun, judge_by_registry, upcast_run
from cloud_api.sync.clocks import judge_clocks, stored_correction
from cloud_api.sync.erased import drop_erased
from cloud_api.sync.grants import Writer, judge_by_grants
from cloud_api.sync.insert import same_content
from cloud_api.sync.letters import forget_letters, keep_letters, refuse_known
from cloud_api.sync.rows import fetch_rows
from domain.clock import Clock
from domain.device_clock import carried_offset_ms, device_offset_ms
from domain.errors import SyncRefused
from domain.ids import Id
from domain.operations import CHAIN_START, Rejection, Verdict
from domain.registry import TABLES, Policy
from domain.wire import Limits, OperationVerdict, PushAnswer, PushRequest

# The number of no incarnation: rows that are written beside a log are nobody's own, and go down to every device.
BESIDE = 0


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far the server has a device's log under one incarnation, and how far a backup holds it."""

    no: int
    last_seq: int
    chain: bytes
    durable_seq: int


class PushReceiver:
    """Applies pushes. `ids` makes ids for conflicts; `poll_after_s` is what devices are told to wait."""

    def __init__(self, clock: Clock, ids: Callable[[], Id], limits: Limits, poll_after_s: float) -> None:
        self._clock, self._ids, self._limits, self._poll_after_s = clock, ids, limits, poll_after_s

    def receive(self, cursor: Any, token: str, push: DecodedPush) -> PushAnswer:
        """Settles every operation of the push in the caller's transaction; may be called again for the same push in another.

        Raises NotSignedIn or Forbidden for the token, SyncRefused when the device's place in its log is not the server's.
        """
        now_ms = self._clock.now_ms()
        device = device_for(cursor, token, lock=True)
        place = _place_for(cursor, device, push, now_ms)
        return self._settle(cursor, device, place, push.batch(), push.request, now_ms)

    def receive_carried(self, cursor: Any, device: Device, push: DecodedPush) -> tuple[PushAnswer, str]:
        """The same for a push that came by stick, perhaps days after it was written, from a device whose row the caller has locked.

        Such a push may end before what the server has of the log, or be of a log that has parted from it. It is settled all the same, beside the
        log: what is here already is known by ids and clocks. The second value is the code with which `receive` would have refused it, empty
        where it would not have.
        """
        now_ms = self._clock.now_ms()
        try:
            place, parted = _place_for(cursor, device, push, now_ms), ""
        except SyncRefused as refusal:
            place, parted = LogPlace(BESIDE, push.request.first_seq - 1, push.chain_before, 0), refusal.code
        return self._settle(cursor, device, place, push.batch(carried=True), push.request, now_ms), parted

    def _settle(self, cursor: Any, device: Device, place: LogPlace, batch: Batch, request: PushRequest, now_ms: int) -> PushAnswer:
        settled = self._apply(cursor, device, place, batch, request, now_ms)
        keep_letters(cursor, device, request, batch, place.last_seq, now_ms)
        forget_letters(cursor, device, batch, place.last_seq)
        if place.no != BESIDE:
            _move_place(cursor, device, place, batch)
        _note_seen(cursor, device, batch, request, now_ms)
        # The last row that a push locks: every push of the school counts into it.
        hours.count(cursor, device.school_id, max(0, batch.last_seq - place.last_seq), now_ms)
        return self._answer(cursor, batch, place, settled, now_ms)

    def _apply(self, cursor: Any, device: Device, place: LogPlace, batch: Batch, request: PushRequest, now_ms: int) -> Settled:
        settled = Settled()
        new: list[DecodedRun] = []
        for run in batch.runs:
            known = min(max(place.last_seq + 1 - run.first_seq, 0), run.count)
            if known:
                _settle_known(cursor, device, batch, run, known, settled)
            if known < run.count:
                new.append(upcast_run(run.slice_from(known)))
        judge_by_registry(batch, new)
        judge_clocks(new, request.clock, now_ms, carried=batch.carried)
        writer = Writer(device.school_id, device.id)
        judge_by_grants(cursor, batch, new, writer)
        _forgive_stored(cursor, device, batch, new)
        drop_erased(cursor, device, batch, new, self._ids, now_ms)
        Applier(cursor, Origin(writer, place.no), self._ids, now_ms).apply(batch, new, settled)
        return settled

    def _answer(self, cursor: Any, batch: Batch, place: LogPlace, settled: Settled, now_ms: int) -> PushAnswer:
        verdicts = [OperationVerdict(seq, Verdict.DUPLICATE.value) for seq in settled.duplicates if seq not in batch.refusals]
        verdicts += [OperationVerdict(seq, Verdict.MERGED.value) for seq in settled.losing if seq not in batch.refusals]
        verdicts += [OperationVerdict(s, Verdict.REJECTED.value, r.code.value, r.message) for s, r in batch.refusals.items()]
        cursor.execute("SELECT epoch FROM server_state")
        return PushAnswer(
            acked_through=batch.last_seq,
            chain=batch.chains[-1].hex(),
            verdicts=sorted(verdicts, key=lambda v: v.seq),
            feed=settled.feed,
            server_time_ms=now_ms,
            server_epoch=cursor.fetchone()[0],
            limits=self._limits,
            poll_after_s=self._poll_after_s,
            durable_through=place.durable_seq or None,
            corrections=settled.corrections,
        )


def _place_for(cursor: Any, device: Device, push: DecodedPush, now_ms: int) -> LogPlace:
    """The server's place in the log that the push continues or repeats. Raises SyncRefused."""
    place = _place_of(cursor, device, push.request, push.chain_before, now_ms)
    _check_continuity(push.batch(), place, push.chain_before)
    return place


def _place_of(cursor: Any, device: Device, request: PushRequest, chain_before: bytes, now_ms: int) -> LogPlace:
    """The server's place in this incarnation's log; a log that begins is given one."""
    key = (device.school_id, device.id, request.incarnation)
    cursor.execute(
        "SELECT no, last_seq, chain, durable_seq FROM device_incarnations WHERE school_id = %s AND device_id = %s AND incarnation = %s", key
    )
    row = cursor.fetchone()
    if row is None and request.first_seq == 1 and chain_before == CHAIN_START:
        cursor.execute(
            "INSERT INTO device_incarnations (school_id, device_id, incarnation, chain, started_at_ms) VALUES (%s, %s, %s, %s, %s)"
            " RETURNING no, last_seq, chain, durable_seq",
            (*key, CHAIN_START, now_ms),
        )
        row = cursor.fetchone()
    if row is None:
        raise SyncRefused("ahead", "This server has never seen the operations before these.")
    return LogPlace(row[0], row[1], bytes(row[2]), row[3])


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


def _settle_known(cursor: Any, device: Device, batch: Batch, run: DecodedRun, count: int, settled: Settled) -> None:
    """Operations that an earlier request has settled, whose answer was lost: what was rejected is so again, everything else is a duplicate,
    with the number that its row has.
    """
    seqs = range(run.first_seq, run.first_seq + count)
    refuse_known(cursor, device, batch, run, count)
    settled.duplicates.extend(seqs)
    table = TABLES.get(run.table_name)
    if table is None or table.policy is not Policy.APPEND_ONLY:
        return
    stored = fetch_rows(cursor, table, device.school_id, run.row_ids[:count])
    for seq, row_id in zip(seqs, run.row_ids, strict=False):
        row = stored.get(row_id)
        if row and same_content(table, run, seq - run.first_seq, row):
            batch.refusals.pop(seq, None)  # the letter is of a copy that sent something else under this id
        if row and seq not in batch.refusals:
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


def _move_place(cursor: Any, device: Device, place: LogPlace, batch: Batch) -> None:
    cursor.execute(
        "UPDATE device_incarnations SET last_seq = %s, chain = %s WHERE school_id = %s AND no = %s",
        (batch.last_seq, batch.chains[-1], device.school_id, place.no),
    )


def _note_seen(cursor: Any, device: Device, batch: Batch, request: PushRequest, now_ms: int) -> None:
    """Writes down that the device is in use, and how wrong its clock is where that can be told."""
    judge = carried_offset_ms if batch.carried else device_offset_ms
    cursor.execute(
        "UPDATE devices SET last_seen_ms = %s, clock_offset_ms = coalesce(%s, clock_offset_ms) WHERE school_id = %s AND id = %s",
        (now_ms, judge(request.clock, now_ms), device.school_id, device.id),
    )
    if request.report is not None:
        reports.note(cursor, device.school_id, device.id, request.report, now_ms)
