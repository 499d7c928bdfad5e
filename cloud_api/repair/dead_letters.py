"""Dead letters as an administrator takes them in hand: listed, corrected, and replayed on the way of a push."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from cloud_api import audit
from cloud_api.database import Cursor, one_row
from cloud_api.repair.letter_repair import Repair, repaired
from cloud_api.sync.apply import Applier, Origin, Settled
from cloud_api.sync.batch import Batch, decode_push, judge_by_registry, upcast_run
from cloud_api.sync.grants import Writer
from cloud_api.sync.merge import SERVER_ORIGIN
from domain.device_clock import Correction
from domain.errors import NotFound
from domain.ids import IdSource
from domain.operations import CHAIN_START, OperationKind, Verdict
from domain.wire import PROTOCOL_VERSION, ClockReading, PushRequest, Run

LIMIT_MAX = 10_000
# A replayed operation is the only one of its batch.
_SEQ = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused operation, whole. `clock_delta_ms` and `clock_doubtful` say what was wrong with the device's clock when it was written."""

    id: str
    device_id: str
    incarnation: str
    seq: int
    table_name: str
    row_id: str
    kind: str
    schema_version: int
    hlc: int
    wall_ms: int
    clock_delta_ms: int
    clock_doubtful: bool
    payload: Any
    base: Any
    code: str
    message: str
    received_at_ms: int


_COLUMNS = tuple(f.name for f in fields(DeadLetter))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM dead_letters WHERE school_id = %(school)s"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters: all, or those that fit everything that is given."""

    code: str | None = None
    device_id: str | None = None
    table: str | None = None

    def where(self, school_id: str) -> tuple[str, dict[str, Any]]:
        """SQL after the school, and its parameters."""
        wanted = {"code": self.code, "device_id": self.device_id, "table_name": self.table}
        given = {name: value for name, value in wanted.items() if value is not None}
        return "".join(f" AND {name} = %({name})s" for name in given), {"school": school_id, **given}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a letter: a verdict, and when it is `rejected` still, why."""

    id: str
    verdict: str
    code: str | None = None
    message: str | None = None


def list_letters(cursor: Cursor, school_id: str, chosen: Filter, limit: int = 100) -> list[DeadLetter]:
    """At most `limit` letters, newest first."""
    where, parameters = chosen.where(school_id)
    cursor.execute(f"{_SELECT}{where} ORDER BY received_at_ms DESC, seq DESC, id LIMIT %(limit)s", {**parameters, "limit": limit})
    return [DeadLetter(*row) for row in cursor.fetchall()]


def count_letters(cursor: Cursor, school_id: str, chosen: Filter) -> int:
    """How many letters there are."""
    where, parameters = chosen.where(school_id)
    cursor.execute(f"SELECT count(*) FROM dead_letters WHERE school_id = %(school)s{where}", parameters)
    return int(one_row(cursor)[0])


def letters_in_order(cursor: Cursor, school_id: str, chosen: Filter) -> list[str]:
    """The ids of at most LIMIT_MAX letters in the order in which their operations were written: what builds on others comes behind them."""
    where, parameters = chosen.where(school_id)
    cursor.execute(
        f"SELECT id FROM dead_letters WHERE school_id = %(school)s{where} ORDER BY received_at_ms, device_id, seq, id LIMIT %(limit)s",
        {**parameters, "limit": LIMIT_MAX},
    )
    return [row[0] for row in cursor.fetchall()]


def find_letter(cursor: Cursor, school_id: str, letter_id: str, *, lock: bool = False) -> DeadLetter:
    """One letter. Raises NotFound."""
    cursor.execute(f"{_SELECT} AND id = %(id)s{' FOR UPDATE' if lock else ''}", {"school": school_id, "id": letter_id})
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such dead letter; `carrel-cloud dead-letters list` shows those there are.")
    return DeadLetter(*row)


def replay(cursor: Cursor, ids: IdSource, school_id: str, letter_id: str, now_ms: int, repair: Repair | None = None) -> Replayed:
    """Applies a letter's operation as if it had just come, by an administrator's right instead of the device's grants.

    Once it is taken the letter is gone, and the row goes to the devices with the feed; else the letter stays, with the present reason. `repair`
    changes the payload before; it stays changed. Raises NotFound, InvalidInput for a repair that the registry does not allow.
    """
    letter = _locked(cursor, school_id, letter_id)
    if repair is not None:
        letter = replace(letter, payload=repaired(letter.table_name, letter.kind, letter.payload, repair))
    # A letter of this very row would be taken for an operation that it builds on.
    cursor.execute("DELETE FROM dead_letters WHERE school_id = %s AND id = %s", (school_id, letter_id))
    outcome = _apply(cursor, ids, school_id, letter, now_ms)
    if outcome.verdict == Verdict.REJECTED:
        _put_back(cursor, school_id, letter, outcome)
    action = "dead_letter.replayed" if repair is None else "dead_letter.fixed"
    detail: dict[str, Any] = {"device": letter.device_id, "verdict": outcome.verdict, "code": outcome.code}
    if repair is not None:
        detail["fields"] = repair.field_names
    audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, action, letter_id, detail)
    return outcome


def _locked(cursor: Cursor, school_id: str, letter_id: str) -> DeadLetter:
    """The letter, once no push of its device is under way: lock order as everywhere, device, school, rows."""
    letter = find_letter(cursor, school_id, letter_id)
    cursor.execute("SELECT FROM devices WHERE school_id = %s AND id = %s FOR UPDATE", (school_id, letter.device_id))
    return find_letter(cursor, school_id, letter_id, lock=True)


def _apply(cursor: Cursor, ids: IdSource, school_id: str, letter: DeadLetter, now_ms: int) -> Replayed:
    batch = _batch_of(letter)
    judge_by_registry(batch, batch.runs)
    settled = Settled()
    origin = Origin(Writer(school_id, letter.device_id, for_school=True), SERVER_ORIGIN)
    Applier(cursor, origin, ids.new, now_ms).apply(batch, batch.runs, settled)
    if (refusal := batch.refusals.get(_SEQ)) is not None:
        return Replayed(letter.id, Verdict.REJECTED.value, refusal.code.value, refusal.message)
    if _SEQ in settled.losing:
        return Replayed(letter.id, Verdict.MERGED.value)
    return Replayed(letter.id, (Verdict.DUPLICATE if _SEQ in settled.duplicates else Verdict.APPLIED).value)


def _batch_of(letter: DeadLetter) -> Batch:
    """The letter as a batch of one operation. What its writer saw is nothing, if nobody said: whatever it overwrites is kept."""
    run = Run(
        table=letter.table_name,
        kind=letter.kind,
        schema=letter.schema_version,
        n=1,
        rows=[letter.row_id],
        wall_ms=[letter.wall_ms],
        mono_ms=[0],
        boot=[""],
        hlc=[letter.hlc],
        fields={name: [value] for name, value in letter.payload.items()},
        base=[letter.base or {}] if letter.kind == OperationKind.UPDATE else None,
    )
    clock = ClockReading(letter.wall_ms, 0, "")
    decoded = decode_push(PushRequest(PROTOCOL_VERSION, letter.incarnation, _SEQ, CHAIN_START.hex(), clock, [run]))
    batch = decoded.batch()
    batch.runs = [upcast_run(run) for run in batch.runs]
    if letter.clock_delta_ms or letter.clock_doubtful:
        batch.runs[0].corrections = [Correction(letter.clock_delta_ms, letter.clock_doubtful)]
    return batch


def _put_back(cursor: Cursor, school_id: str, letter: DeadLetter, outcome: Replayed) -> None:
    kept = {name: getattr(letter, name) for name in _COLUMNS}
    kept |= {"payload": json.dumps(letter.payload), "base": letter.base and json.dumps(letter.base)}
    kept |= {"code": outcome.code, "message": outcome.message}
    cursor.execute(
        f"INSERT INTO dead_letters (school_id, {', '.join(_COLUMNS)}) VALUES (%s, {', '.join(['%s'] * len(_COLUMNS))})",
        (school_id, *(kept[name] for name in _COLUMNS)),
    )
