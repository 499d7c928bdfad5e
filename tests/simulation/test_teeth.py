"""The simulator has teeth: each bug planted here, in the test alone, is found in the world of its seed and named by the right invariant.

A seed stands beside each bug because the first that finds it is known; CARREL_SIM_TEETH_SEEDS=FIRST-LAST looks for others after a change.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cloud_api.database import CloudDatabase
from cloud_api.sync import pull, push
from daemon import inbox, outbox, records
from daemon.sync import push as device_push
from domain.errors import CloudUnreachable
from domain.wire import OperationVerdict
from tests.simulation.world import Violated, World

Plant = Callable[[pytest.MonkeyPatch], None]


def forgotten_operation(patch: pytest.MonkeyPatch) -> None:
    """A row is stored without its operation now and then."""
    append = outbox.Outbox.append

    def forgetful(self: outbox.Outbox, conn: sqlite3.Connection, operations: Sequence[Any]) -> None:
        append(self, conn, operations[1:] if len(operations) > 2 else operations)

    patch.setattr(records.Outbox, "append", forgetful)


def settled_before_the_answer(patch: pytest.MonkeyPatch) -> None:
    """A refusal of the network counts as an acknowledgement."""

    def hopeful(self: device_push.Pusher, batch: Any, sent: Any, identity: Any) -> Any:
        try:
            return sent.result()
        except CloudUnreachable:
            seq = batch.after.acked_op_no - batch.place.seq_base
            return device_push.PushAnswer(seq, batch.after.chain.hex(), [], [], 1, identity.server_epoch, self._limits, 30.0)

    patch.setattr(device_push.Pusher, "_accept", hopeful)


def forgotten_chain_check(patch: pytest.MonkeyPatch) -> None:
    """The server goes by numbers alone."""
    check = push._check_continuity

    def blind(batch: Any, place: Any, chain_before: bytes) -> None:
        try:
            check(batch, place, chain_before)
        except push.SyncRefused as refused:
            if refused.code != "fork":
                raise

    patch.setattr(push, "_check_continuity", blind)


def own_rows_always_left_out(patch: pytest.MonkeyPatch) -> None:
    """Whoever shares an incarnation is taken to know all that it wrote."""
    standing = pull._standing

    def trusting(cursor: Any, device: Any, request: Any) -> Any:
        _, head, epoch = standing(cursor, device, request)
        cursor.execute(
            "SELECT coalesce(max(no), -1) FROM device_incarnations WHERE device_id = %s AND incarnation = %s",
            (device.id, request.incarnation),
        )
        return cursor.fetchone()[0], head, epoch

    patch.setattr(pull, "_standing", trusting)


def cursor_beyond_the_page(patch: pytest.MonkeyPatch) -> None:
    """A page that was cut moves its cursor to the head all the same."""
    shortened = pull._shortened

    def overstated(cursor: Any, device: Any, reach: Any, origin_no: int, rows: int) -> Any:
        part = shortened(cursor, device, reach, origin_no, rows)
        return part and _Overstated(part, reach.through)

    patch.setattr(pull, "_shortened", overstated)


class _Overstated:
    """A reach that is written down as longer than it is."""

    def __init__(self, part: Any, through: int) -> None:
        self._part, self._said, self._asked = part, through, False

    def __getattr__(self, name: str) -> Any:
        if name == "through" and not self._asked:
            self._asked = True
            return self._said
        return getattr(self._part, name)


def tombstones_dropped(patch: pytest.MonkeyPatch) -> None:
    """Deletions are not told."""
    patch.setattr(pull, "_tombstones", lambda *_: [])


def dead_letters_dropped(patch: pytest.MonkeyPatch) -> None:
    """What is rejected is not kept."""
    patch.setattr(push, "_keep_dead_letters", lambda *_: None)


def rejections_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The device takes every verdict for a good one."""
    settle = outbox.settle

    def deaf(conn: Any, place: Any, after: Any, verdicts: Iterable[OperationVerdict], feed: Any, now_ms: int) -> Any:
        return settle(conn, place, after, [], feed, now_ms)

    patch.setattr(outbox, "settle", deaf)


def lost_scope_kept(patch: pytest.MonkeyPatch) -> None:
    """What a device may no longer hold stays on it."""
    patch.setattr(inbox, "_evict", lambda conn, scope: conn.execute("DELETE FROM cursors WHERE scope = ?", (scope,)))


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


TEETH: list[tuple[Plant, str, int]] = [
    (forgotten_operation, "NO_LOST_OP|TRUTHFUL_STATUS|CONVERGENCE", 1),
    (settled_before_the_answer, "NO_LOST_OP|TRUTHFUL_STATUS", 16),
    (forgotten_chain_check, "NO_LOST_OP|TRUTHFUL_STATUS|CONVERGENCE", 28),
    (own_rows_always_left_out, "NO_GAP|CONVERGENCE", 1),
    (cursor_beyond_the_page, "NO_GAP", 1),
    (tombstones_dropped, "CONVERGENCE", 4),
    (dead_letters_dropped, "NO_LOST_OP|TRUTHFUL_STATUS", 31),
    (rejections_forgotten, "TRUTHFUL_STATUS|CONVERGENCE", 26),
    (lost_scope_kept, "NO_LEAK", 18),
    (first_operation_left_behind, "NO_LOST_OP|TRUTHFUL_STATUS|NO_WEDGE", 16),
]
RANGE = os.environ.get("CARREL_SIM_TEETH_SEEDS", "")


@pytest.mark.parametrize(("plant", "names", "seed"), TEETH, ids=[plant.__name__ for plant, _, _ in TEETH])
def test_a_planted_bug_is_found(
    plant: Plant,
    names: str,
    seed: int,
    simulated_cloud: CloudDatabase,
    device_template: Path,
    memory_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    first, _, last = RANGE.partition("-")
    found: list[str] = []
    for number in range(int(first), int(last) + 1) if RANGE else (seed,):
        try:
            folder = memory_path / str(number)
            folder.mkdir()
            World(number, simulated_cloud, folder, device_template, universe=plant.__name__).run()
        except Violated as violated:
            found.append(f"{str(violated).partition(' ')[0]} {number}")
            if found[-1].partition(" ")[0] in names.split("|"):
                break
    assert found, "not found"
    assert found[-1].partition(" ")[0] in names.split("|"), found
    if RANGE:
        print(plant.__name__, found)
