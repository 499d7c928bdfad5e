"""Bugs planted in the device's side, in tests alone: each patches the product where a mistake would have been easy."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from daemon import inbox, records
from daemon.identity import device
from daemon.queue import outbox, settlement
from daemon.sync import pull, push
from daemon.sync import round as sync_round
from domain.errors import BodyTooLarge, CloudUnreachable
from domain.wire import PushAnswer


def forgotten_operation(patch: pytest.MonkeyPatch) -> None:
    """A row is stored without its operation now and then."""
    append = outbox.Outbox.append

    def forgetful(self: outbox.Outbox, conn: sqlite3.Connection, operations: Sequence[Any]) -> None:
        append(self, conn, operations[1:] if len(operations) > 2 else operations)

    patch.setattr(outbox.Outbox, "append", forgetful)


def row_and_operation_apart(patch: pytest.MonkeyPatch) -> None:
    """An answer is stored in one transaction and queued in the next."""
    write = records.LocalRecords.record_attempts

    def apart(self: records.LocalRecords, student_id: Any, attempts: Any) -> Any:
        later: list[Any] = []
        held = self._outbox
        self._outbox = _Holding(later)  # type: ignore[assignment]
        try:
            recorded = write(self, student_id, attempts)
        finally:
            self._outbox = held
        self._database.write(lambda conn: held.append(conn, later))
        return recorded

    patch.setattr(records.LocalRecords, "record_attempts", apart)


class _Holding:
    """An outbox that only remembers."""

    def __init__(self, later: list[Any]) -> None:
        self._later = later

    def append(self, conn: sqlite3.Connection, operations: Sequence[Any]) -> None:
        self._later.extend(operations)


def settled_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    """A refusal of the network counts as an acknowledgement."""

    def hopeful(self: push.Pusher, batch: Any, sent: Any, who: Any, *_: Any) -> Any:
        try:
            return sent.result()
        except CloudUnreachable:
            seq = batch.after.acked_op_no - batch.place.seq_base
            return PushAnswer(seq, batch.after.chain.hex(), [], [], 1, who.server_epoch, self._limits, 30.0)

    patch.setattr(push.Pusher, "_accept", hopeful)


def verdicts_not_read(patch: pytest.MonkeyPatch) -> None:
    """The device takes every verdict for a good one."""
    settle = settlement.settle

    def deaf(conn: Any, place: Any, after: Any, answer: Any, now_ms: int) -> Any:
        return settle(conn, place, after, msgspec.structs.replace(answer, verdicts=[]), now_ms)

    patch.setattr(settlement, "settle", deaf)


def numbers_of_own_rows_not_read(patch: pytest.MonkeyPatch) -> None:
    """The device does not write down the feed numbers that its own rows were given."""
    patch.setattr(settlement, "_number_rows", lambda conn, first_op_no, last_op_no, feed_no: last_op_no - first_op_no + 1)


def busy_server_taken_for_poison(patch: pytest.MonkeyPatch) -> None:
    """A server that fails is taken for one that refuses the operation."""
    heed = push.Pusher._heed

    def hasty(self: push.Pusher, refusal: CloudUnreachable, batch: Any, *others: Any) -> None:
        if refusal.reason == "server_error" and batch.request.runs[0].kind != "void":
            refusal = CloudUnreachable("too_large", refusal.message, 413, remote_code=BodyTooLarge.code)
        heed(self, refusal, batch, *others)

    patch.setattr(push.Pusher, "_heed", hasty)


def first_operation_left_behind(patch: pytest.MonkeyPatch) -> None:
    """A new incarnation begins one operation too late."""
    start = outbox.start_incarnation

    def late(conn: sqlite3.Connection, incarnation: Any, *, resend_all: bool) -> None:
        start(conn, incarnation, resend_all=resend_all)
        conn.execute(
            "UPDATE sync_progress SET seq_base = seq_base + 1, acked_op_no = acked_op_no + 1"
            " WHERE acked_op_no < (SELECT max(op_no) FROM sync_operations)"
        )

    patch.setattr(outbox, "start_incarnation", late)


def restored_server_not_refilled(patch: pytest.MonkeyPatch) -> None:
    """After a restore of the server only what is queued is sent, not what is kept."""
    start = outbox.start_incarnation

    def lazy(conn: sqlite3.Connection, incarnation: Any, *, resend_all: bool) -> None:
        start(conn, incarnation, resend_all=False)

    patch.setattr(outbox, "start_incarnation", lazy)


def new_epoch_overlooked(patch: pytest.MonkeyPatch) -> None:
    """A device takes a restored server for the one that it knew."""

    def overlook(self: device.Identity, conn: sqlite3.Connection, epoch: str) -> None:
        conn.execute("UPDATE identity SET server_epoch = ?", (epoch,))

    patch.setattr(device.Identity, "follow_epoch", overlook)


def pruned_too_early(patch: pytest.MonkeyPatch) -> None:
    """Settled operations are removed as soon as they are settled."""
    patch.setattr(outbox, "KEEP_SYNCED_MS", -1)
    patch.setattr(sync_round, "TIDY_EVERY_MS", 1)


def cursor_before_its_page(patch: pytest.MonkeyPatch) -> None:
    """A page's cursors are written in a transaction before its rows."""
    write = pull.Puller._write

    def ahead(self: pull.Puller, page: Any, incarnation: str) -> Any:
        self._database.write(
            lambda conn: (
                conn.executemany(
                    "UPDATE cursors SET cursor = ? WHERE scope = ?", [(cursor, scope) for scope, cursor in page.cursors.items()]
                ).rowcount
            )
        )
        return write(self, page, incarnation)

    patch.setattr(pull.Puller, "_write", ahead)


def scope_back_in_the_same_life(patch: pytest.MonkeyPatch) -> None:
    """A scope that was lost comes back without the device's own rows, because its log goes on under the same name."""
    apply = pull.Puller._apply

    def same_life(self: pull.Puller, conn: sqlite3.Connection, page: Any, incarnation: str) -> Any:
        held = self._identity.start_incarnation
        self._identity.start_incarnation = lambda *_, **__: None  # type: ignore[method-assign]
        try:
            return apply(self, conn, page, incarnation)
        finally:
            self._identity.start_incarnation = held  # type: ignore[method-assign]

    patch.setattr(pull.Puller, "_apply", same_life)


def lost_scope_kept(patch: pytest.MonkeyPatch) -> None:
    """What a device may no longer hold stays on it."""
    patch.setattr(inbox, "_evict", lambda conn, scope: conn.execute("DELETE FROM cursors WHERE scope = ?", (scope,)))


def tombstones_not_applied(patch: pytest.MonkeyPatch) -> None:
    """The device does not delete what was deleted."""
    patch.setattr(inbox, "_bury", lambda *_: None)


def rebaselining_never_ends(patch: pytest.MonkeyPatch) -> None:
    """Rows that a restored server does not have any more stay."""
    patch.setattr(inbox, "_finish_rebaselining", lambda *_: None)


def shadow_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A row that comes down replaces what is queued for it."""
    patch.setattr(inbox, "under_queued", lambda table, row, queued, writer: dict(row))


def shadow_not_given_back(patch: pytest.MonkeyPatch) -> None:
    """A change that was rejected stays on show."""
    patch.setattr(inbox, "release_shadows", lambda conn: conn.execute("DELETE FROM shadows"))


def mastery_not_stale(patch: pytest.MonkeyPatch) -> None:
    """Answers that come down do not count for the mastery."""
    apply = inbox.apply_tables

    def unmarked(conn: sqlite3.Connection, tables: Any) -> int:
        before = [row[0] for row in conn.execute("SELECT student_id FROM mastery_stale")]
        applied = apply(conn, tables)
        conn.execute("DELETE FROM mastery_stale")
        conn.executemany("INSERT INTO mastery_stale (student_id) VALUES (?)", [(student,) for student in before])
        return applied

    patch.setattr(inbox, "apply_tables", unmarked)


def queue_not_counted(patch: pytest.MonkeyPatch) -> None:
    """The status does not look at the queue."""
    counts = outbox.counts
    patch.setattr(outbox, "counts", lambda conn: replace(counts(conn), pending=0))
