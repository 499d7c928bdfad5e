"""Dead letters as pushes make them: refused operations, kept whole, found again when they are sent again, and forgotten once they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from psycopg2.extras import execute_values

from cloud_api.devices.auth import Device
from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.clocks import judge_clocks
from domain.device_clock import RIGHT
from domain.ids import Id, derived_id
from domain.operations import OperationKind, Rejection
from domain.registry import Table
from domain.wire import PushRequest

# Names that no registry holds may be of any length; a letter keeps so much of them.
NAME_LENGTH_MAX = 100
INT32_MAX = 2**31 - 1


def letter_id(device_id: str, run: DecodedRun, at: int) -> Id:
    """An operation of one device has one letter, however often it is sent. Two devices, and two copies of one, may have used one id for different content."""
    return _id_of(device_id, run.op_ids[at], _payload_of(run, at))


def letter_ids(device_id: str, run: DecodedRun, at: int) -> tuple[Id, Id]:
    """The id of an operation's letter, and the one that it has once its answer was let go of: where there is none, the same."""
    whole, table = _payload_of(run, at), run.table
    return _id_of(device_id, run.op_ids[at], whole), _id_of(device_id, run.op_ids[at], _blanked(table, whole) if table else whole)


def _id_of(device_id: str, op_id: str, payload: str) -> Id:
    return derived_id("dead letter", device_id, op_id, payload)


def without_answer(table: Table, letter: str, device_id: str, row_id: str, kind: str, payload: str) -> tuple[Id, str]:
    """The id and the payload that a stored letter has from now on, when what may be let go of is let go of."""
    blanked = _blanked(table, payload)
    # An insert goes by its row's id; of what else there may be under such a name the id of the operation is not known any more.
    return (_id_of(device_id, row_id, blanked) if kind == OperationKind.INSERT else Id(letter)), blanked


def _blanked(table: Table, payload: str) -> str:
    """Without what may be let go of, and without the fields of a newer app, of which nobody here knows what they hold."""
    if not table.let_go:
        return payload
    kept = set(table.column_names).difference(table.let_go)
    fields = msgspec.json.decode(payload)
    return msgspec.json.encode({name: value if name in kept else None for name, value in fields.items()}).decode()


def refuse_known(cursor: Any, device: Device, batch: Batch, run: DecodedRun, count: int) -> None:
    """Refuses again those of the run's first `count` operations that were refused before.

    Under whichever incarnation: a copy of the device may have sent the operation again since, which moved its letter there. One that was taken in
    the end has no letter any more.
    """
    letters = {letter: run.first_seq + at for at in range(count) for letter in letter_ids(device.id, run, at)}
    cursor.execute(
        "SELECT id, code, message FROM dead_letters WHERE school_id = %s AND id = ANY(%s::uuid[])", (device.school_id, list(letters))
    )
    for letter, code, message in cursor.fetchall():
        batch.refuse(letters[letter], Rejection(code), message)


def keep_letters(cursor: Any, device: Device, request: PushRequest, batch: Batch, last_seq: int, now_ms: int) -> None:
    """Keeps every refused operation behind `last_seq` as a dead letter, as it came."""
    refused = [
        (run, seq - run.first_seq)
        for run in batch.runs
        for seq in range(run.first_seq, run.first_seq + run.count)
        if seq in batch.refusals and seq > last_seq and batch.refusals[seq].code is not Rejection.ERASED
    ]
    if not refused:
        return
    judge_clocks({id(run): run for run, _ in refused}.values(), request.clock, now_ms, carried=batch.carried)
    blanked = _known_blanked(cursor, device, refused)
    refused = [(run, at) for run, at in refused if letter_ids(device.id, run, at)[1] not in blanked]
    if not refused:
        return
    execute_values(
        cursor,
        "INSERT INTO dead_letters (school_id, id, device_id, incarnation, seq, table_name, row_id, kind, schema_version, hlc, wall_ms,"
        " clock_delta_ms, clock_doubtful, payload, base, code, message, received_at_ms) VALUES %s ON CONFLICT (school_id, id) DO UPDATE"
        " SET incarnation = excluded.incarnation, seq = excluded.seq, code = excluded.code, message = excluded.message",
        list({letter_id(device.id, run, at): _letter(device, request, batch, run, at, now_ms) for run, at in refused}.values()),
    )


def _known_blanked(cursor: Any, device: Device, refused: Sequence[tuple[DecodedRun, int]]) -> set[str]:
    """Letters that are here without their answers, of operations that come with them once more: they stay as they are."""
    ids = [blanked for run, at in refused for whole, blanked in (letter_ids(device.id, run, at),) if blanked != whole]
    if not ids:
        return set()
    cursor.execute("SELECT id FROM dead_letters WHERE school_id = %s AND id = ANY(%s::uuid[])", (device.school_id, ids))
    return {letter for (letter,) in cursor.fetchall()}


def _letter(device: Device, request: PushRequest, batch: Batch, run: DecodedRun, at: int, now_ms: int) -> Sequence[Any]:
    refusal = batch.refusals[run.first_seq + at]
    clock = run.corrections[at] if run.corrections else RIGHT
    base = run.bases[at] if run.bases else None
    return (
        device.school_id,
        letter_id(device.id, run, at),
        device.id,
        request.incarnation,
        run.first_seq + at,
        run.table_name[:NAME_LENGTH_MAX].replace("\x00", ""),
        run.row_ids[at],
        run.kind[:NAME_LENGTH_MAX].replace("\x00", ""),
        min(max(run.schema, 0), INT32_MAX),
        run.hlcs[at],
        run.wall_ms[at],
        clock.delta_ms,
        clock.doubtful,
        _payload_of(run, at),
        None if base is None else msgspec.json.encode(base).decode(),
        refusal.code.value,
        refusal.message,
        now_ms,
    )


def _void_letter_id(device_id: str, op_id: str) -> Id:
    """The letter of an operation that was once sent as a void."""
    return derived_id("dead letter", device_id, op_id, "{}")


def _payload_of(run: DecodedRun, at: int) -> str:
    return msgspec.json.encode(run.payload(at)).decode()


def forget_letters(cursor: Any, device: Device, batch: Batch, last_seq: int) -> None:
    """Forgets the letters of operations behind `last_seq` that were taken this time. Most devices have none, which one look into an index says."""
    cursor.execute("SELECT EXISTS (SELECT FROM dead_letters WHERE school_id = %s AND device_id = %s)", (device.school_id, device.id))
    if not cursor.fetchone()[0]:
        return
    taken = [
        id_
        for run in batch.runs
        for seq in range(run.first_seq, run.first_seq + run.count)
        if seq not in batch.refusals and seq > last_seq
        for id_ in (*letter_ids(device.id, run, seq - run.first_seq), _void_letter_id(device.id, run.op_ids[seq - run.first_seq]))
    ]
    cursor.execute("DELETE FROM dead_letters WHERE school_id = %s AND id = ANY(%s::uuid[])", (device.school_id, taken))
