"""Bugs planted in sync by stick, in tests alone: each patches the product where a mistake would have been easy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from cloud_api.bundles import carried_feed as school_feed
from cloud_api.bundles import exchange as school_bundles
from cloud_api.sync import apply, push
from daemon.bundles import carried_feed, exchange
from daemon.queue import outbox
from daemon.sync import round as sync_round
from domain.bodies import from_json
from domain.bundle import Answered, FromSchool
from domain.operations import OperationState


def answer_of_another_life_believed(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement on a stick is believed by numbers alone, whichever life of the log it answers."""
    plan = exchange.DeviceBundles._plan

    def steps(conn: sqlite3.Connection, place: Any, answers: Sequence[msgspec.Raw]) -> Iterator[Any]:
        for raw in answers:
            told = from_json(bytes(raw), Answered)
            acked_seq = place.acked_op_no - place.seq_base
            if told.answer.acked_through > acked_seq:
                operations = outbox.next_operations(conn, place, told.answer.acked_through - acked_seq, 2**62)
                if operations:
                    after = exchange._after(place, operations)
                    yield exchange._Step(place, after, exchange._beyond(told.answer, acked_seq))
                    place = after

    def trusting(self: exchange.DeviceBundles, conn: sqlite3.Connection, message: FromSchool) -> Any:
        place = outbox.progress(conn)
        if place and message.incarnation:
            message = msgspec.structs.replace(message, incarnation=place.incarnation)
        return plan(self, conn, message)

    patch.setattr(exchange, "_steps", steps)
    patch.setattr(exchange.DeviceBundles, "_plan", trusting)


def feed_over_a_gap(patch: pytest.MonkeyPatch) -> None:
    """A feed that begins after what the device has moves its cursors all the same."""
    judge = carried_feed.judge

    def blind(feed: Any, standing: Any) -> Any:
        since = {scope: min(cursor, standing.cursors.get(scope, 0)) for scope, cursor in feed.since.items()}
        return judge(msgspec.structs.replace(feed, since=since), standing)

    patch.setattr(carried_feed, "judge", blind)


def older_feed_applied(patch: pytest.MonkeyPatch) -> None:
    """Rows of a feed that the device has passed already are applied once more, and bring back what was deleted since."""
    judge = carried_feed.judge

    def eager(feed: Any, standing: Any) -> Any:
        use = judge(feed, standing)
        return carried_feed.Use.APPLY if use is carried_feed.Use.LEAVE else use

    patch.setattr(carried_feed, "judge", eager)
    patch.setattr(carried_feed, "_narrowed", lambda name, block, held: block)


def exported_taken_for_settled(patch: pytest.MonkeyPatch) -> None:
    """What was written to a stick counts as sent."""
    collect = exchange.DeviceBundles.collect

    def hopeful(self: exchange.DeviceBundles) -> Any:
        collected = collect(self)
        self._database.write(lambda conn: conn.execute(_SETTLED))
        return collected

    patch.setattr(exchange.DeviceBundles, "collect", hopeful)


_SETTLED = (
    f"UPDATE sync_operations SET state = '{OperationState.SYNCED.value}', settled_at_ms = 0 WHERE state = '{OperationState.PENDING.value}'"
)


def carried_push_of_a_parted_log_dropped(patch: pytest.MonkeyPatch) -> None:
    """Operations that come by stick beside the log that the server knows are answered and not stored."""
    settle = push.PushReceiver._settle

    def forgetful(self: push.PushReceiver, cursor: Any, device: Any, place: push.LogPlace, batch: Any, request: Any, now_ms: int) -> Any:
        if place.no != push.BESIDE:
            return settle(self, cursor, device, place, batch, request, now_ms)
        return self._answer(cursor, batch, place, apply.Settled(), now_ms)

    patch.setattr(push.PushReceiver, "_settle", forgetful)


def poll_trusted_after_a_bundle(patch: pytest.MonkeyPatch) -> None:
    """After a bundle, which may be of before a grant, the cheap poll goes by what the device knew."""
    between_rounds = sync_round.SyncRound.between_rounds

    def trusting(self: sync_round.SyncRound, act: Any) -> Any:
        known = self._etag_pulls_begun
        try:
            return between_rounds(self, act)
        finally:
            self._etag_pulls_begun = known

    patch.setattr(sync_round.SyncRound, "between_rounds", trusting)


def own_rows_left_out_of_a_bundle(patch: pytest.MonkeyPatch) -> None:
    """A feed on a stick leaves out what the device has written itself, as if it had heard the answer."""
    patch.setattr(school_feed, "gather_feed", _leaving_out)
    patch.setattr(school_bundles, "gather_feed", _leaving_out)


def _leaving_out(cursor: Any, device: Any, asked: Any, clock: Any, limit_bytes: int) -> Any:
    cursor.execute(
        "SELECT last_seq FROM device_incarnations WHERE school_id = %s AND device_id = %s AND incarnation = %s::uuid",
        (device.school_id, device.id, asked.incarnation),
    )
    found = cursor.fetchone()
    held, school_feed._NONE_KNOWN = school_feed._NONE_KNOWN, found[0] if found else -1
    try:
        return _gather_feed(cursor, device, asked, clock, limit_bytes)
    finally:
        school_feed._NONE_KNOWN = held


_gather_feed = school_feed.gather_feed
