"""A push as it arrived: decoded into columns, its chain computed, and every operation judged by the registry. No database here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from cloud_api.sync.envelope import envelope_problems
from domain.blocks import BlockError, decode_column
from domain.device_clock import Correction, shown_ms
from domain.errors import InvalidInput, Problem
from domain.ids import is_id
from domain.operations import CHAIN_BYTES, OperationKind, Rejection, canonical_bytes, canonical_prefix, next_chain
from domain.registry import TABLES, Column, Kind, Table
from domain.upcast import upcast
from domain.validation import bad_places, problem_in
from domain.wire import BATCH_OPS_MAX, PushRequest, Run

# Operations that one request may hold, whatever limit the device was told before an upgrade of the server.
OPS_ACCEPTED_MAX = 4 * BATCH_OPS_MAX


@dataclass(slots=True)
class DecodedRun:
    """One run as columns. `first_seq` numbers its first operation; `fields` keeps the order in which the payload was written, and `mistyped`
    names those of them whose values are not all of their column's type.
    """

    first_seq: int
    table_name: str
    kind: str
    schema: int
    row_ids: list[str]
    op_ids: list[str]
    hlcs: list[int]
    wall_ms: list[int]
    mono_ms: list[int]
    boots: list[str]
    fields: dict[str, list[Any]]
    mistyped: frozenset[str] = frozenset()
    # What was wrong with the device's clock at each operation; None while nothing was.
    corrections: list[Correction] | None = None
    # What each update has replaced, as it came (cloud_api/sync/base.py); None throughout when the device told nothing.
    bases: list[Any] | None = None

    @property
    def count(self) -> int:
        return len(self.row_ids)

    @property
    def table(self) -> Table | None:
        return TABLES.get(self.table_name)

    def payload(self, place: int) -> dict[str, Any]:
        """The payload of one operation."""
        return {name: column[place] for name, column in self.fields.items()}

    def written_ms(self, place: int) -> int:
        """When one operation was written, by the server's clock as far as that can be told."""
        return shown_ms(self.wall_ms[place]) + (self.corrections[place].delta_ms if self.corrections else 0)

    def slice_from(self, place: int) -> DecodedRun:
        """The run without its first `place` operations."""
        if place == 0:
            return self
        return DecodedRun(
            self.first_seq + place,
            self.table_name,
            self.kind,
            self.schema,
            self.row_ids[place:],
            self.op_ids[place:],
            self.hlcs[place:],
            self.wall_ms[place:],
            self.mono_ms[place:],
            self.boots[place:],
            {name: column[place:] for name, column in self.fields.items()},
            self.mistyped,
            bases=self.bases and self.bases[place:],
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one operation becomes a dead letter."""

    code: Rejection
    message: str


@dataclass(slots=True)
class Batch:
    """The decoded runs in order, `chains[i]` the chain after operation `first_seq + i`, and the refusals by seq.

    `carried` says that they came by stick: when they arrive tells nothing about the device's clock.
    """

    first_seq: int
    runs: list[DecodedRun]
    chains: list[bytes]
    refusals: dict[int, Refusal] = field(default_factory=dict)
    carried: bool = False

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.chains) - 1

    def refuse(self, seq: int, code: Rejection, message: str) -> None:
        """Records the first reason why an operation cannot be applied."""
        self.refusals.setdefault(seq, Refusal(code, message))


@dataclass(frozen=True, slots=True)
class DecodedPush:
    """A request with its runs decoded and the chain before and after each of its operations worked out; the same however often it is applied."""

    request: PushRequest
    chain_before: bytes
    runs: list[DecodedRun]
    chains: list[bytes]

    def batch(self, *, carried: bool = False) -> Batch:
        """The batch, with nothing refused yet."""
        return Batch(self.request.first_seq, self.runs, self.chains, carried=carried)


def decode_push(request: PushRequest) -> DecodedPush:
    """Decodes every run and computes the chain. Needs no database. Raises InvalidInput when the form of the request is broken."""
    chain = chain_before = _check_form(request)
    if sum(max(run.n, 0) for run in request.runs) > OPS_ACCEPTED_MAX:
        raise InvalidInput([Problem("$.runs", "too_many_operations", f"At most {OPS_ACCEPTED_MAX} operations a request.")])
    runs: list[DecodedRun] = []
    chains: list[bytes] = []
    seq = request.first_seq
    for place, run in enumerate(request.runs):
        decoded = _decode_run(run, seq, f"$.runs[{place}]")
        for canonical in _canonical(decoded):
            chain = next_chain(chain, canonical)
            chains.append(chain)
        runs.append(decoded)
        seq += run.n
    return DecodedPush(request, chain_before, runs, chains)


def _check_form(request: PushRequest) -> bytes:
    """The chain before the first operation, once the envelope is found to be well-formed."""
    problems = envelope_problems(request.protocol, request.incarnation)
    if not 1 <= request.first_seq < 2**62:
        problems.append(Problem("$.first_seq", "out_of_range", "Operations are numbered from 1."))
    if len(request.chain) != 2 * CHAIN_BYTES or not is_id(request.chain):
        problems.append(Problem("$.chain", "malformed", "A chain is 32 lowercase hex digits."))
    if not request.runs:
        problems.append(Problem("$.runs", "empty", "A push holds at least one operation."))
    if problems:
        raise InvalidInput(problems)
    return bytes.fromhex(request.chain)


def _decode_run(run: Run, first_seq: int, path: str) -> DecodedRun:
    if run.n < 1:
        raise InvalidInput([Problem(f"{path}.n", "malformed", "A run holds at least one operation.")])
    try:
        rows = _present(decode_column(Kind.ID, run.rows, run.n))
        ops = rows if run.ops is None else _present(decode_column(Kind.ID, run.ops, run.n))
        hlcs = _present(decode_column(Kind.INTEGER, run.hlc, run.n))
        wall_ms = _present(decode_column(Kind.INTEGER, run.wall_ms, run.n))
        mono_ms = _present(decode_column(Kind.INTEGER, run.mono_ms, run.n))
        boots = _present(decode_column(Kind.TEXT, run.boot, run.n))
        fields, mistyped = _decode_fields(run)
    except BlockError as error:
        raise InvalidInput([Problem(path, "malformed", f"A column cannot be read: {error}.")]) from error
    return DecodedRun(
        first_seq, run.table, run.kind, run.schema, rows, ops, hlcs, wall_ms, mono_ms, boots, fields, mistyped, bases=_decode_bases(run)
    )


def _present(values: list[Any]) -> list[Any]:
    if None in values:
        raise BlockError("a value is missing")
    return values


def _decode_fields(run: Run) -> tuple[dict[str, list[Any]], frozenset[str]]:
    """The fields' values. Where they are not of the column's type they are kept as they came, for the dead letters that they become."""
    fields: dict[str, list[Any]] = {}
    mistyped = set()
    table = TABLES.get(run.table)
    for name, encoded in run.fields.items():
        column = _column(table, name)
        try:
            fields[name] = decode_column(column.kind if column else Kind.JSON, encoded, run.n)
        except BlockError:
            fields[name] = decode_column(Kind.JSON, encoded, run.n)
            mistyped.add(name)
    return fields, frozenset(mistyped)


def _decode_bases(run: Run) -> list[Any] | None:
    """What the updates have replaced. It decides nothing but what is kept as a conflict, so what cannot be read spoils no request."""
    if run.base is None:
        return None
    try:
        return decode_column(Kind.JSON, run.base, run.n)
    except BlockError:
        return [{}] * run.n


def _column(table: Table | None, name: str) -> Column | None:
    return next((c for c in table.columns if c.name == name), None) if table else None


def _canonical(run: DecodedRun) -> Iterator[bytes]:
    """The canonical bytes of the run's operations, from the columns in the order in which they came (domain/operations.py)."""
    prefix = canonical_prefix(run.table_name, run.kind, run.schema)
    names = tuple(run.fields)
    # An operation that changes nothing still takes its place in the chain.
    rows = zip(*run.fields.values(), strict=True) if names else iter([()] * run.count)
    # One call for all payloads: JSON text holds no raw line end.
    payloads = msgspec.json.Encoder().encode_lines([dict(zip(names, row, strict=True)) for row in rows]).decode().split("\n")
    stamps = zip(run.op_ids, run.row_ids, run.hlcs, run.wall_ms, payloads, strict=False)
    for seq, (op_id, row_id, hlc, wall_ms, payload) in enumerate(stamps, run.first_seq):
        yield canonical_bytes(prefix, seq, op_id, row_id, hlc, wall_ms, payload)


def upcast_run(run: DecodedRun) -> DecodedRun:
    """The run as it would have been written under the present schema; the same run where it was."""
    fields = upcast(run.table_name, run.kind, run.schema, run.fields)
    if fields is run.fields:
        return run
    mistyped = {name for name, values in fields.items() if (c := _column(run.table, name)) and not _typed(c, values)}
    return replace(run, fields=dict(fields), mistyped=frozenset(mistyped))


def _typed(column: Column, values: list[Any]) -> bool:
    try:
        decode_column(column.kind, values, len(values))
    except BlockError:
        return False
    return True


def judge_by_registry(batch: Batch, runs: Sequence[DecodedRun]) -> None:
    """Refuses the operations among `runs` that the registry does not allow: tables, kinds, columns, types and limits."""
    for run in runs:
        if (refusal := _refusal_of_run(run)) is not None:
            for seq in range(run.first_seq, run.first_seq + run.count):
                batch.refuse(seq, refusal.code, refusal.message)
            continue
        for place, message in _bad_values(run):
            batch.refuse(run.first_seq + place, Rejection.INVALID, message)


def _refusal_of_run(run: DecodedRun) -> Refusal | None:
    """What is wrong with a run as a whole."""
    if run.kind == OperationKind.VOID:
        return Refusal(Rejection.SET_ASIDE, "The device could not send this operation.")
    table = run.table
    if table is None or not table.from_devices:
        return Refusal(Rejection.UNKNOWN_TABLE, "Devices do not write such a table.")
    known = {c.name for c in table.columns}
    if forbidden := sorted(c.name for c in table.columns if c.name in run.fields and (c.set_by_server or c.name == "id")):
        return Refusal(Rejection.NOT_WRITABLE, f"Devices do not set {', '.join(forbidden)}.")
    if run.kind == OperationKind.UPDATE:
        fixed = sorted(set(run.fields) & known - table.updatable)
        return Refusal(Rejection.NOT_WRITABLE, f"{', '.join(fixed)} cannot be changed.") if fixed or not table.updatable else None
    if run.kind != OperationKind.INSERT:
        return Refusal(Rejection.NOT_WRITABLE, "Rows of this table are not changed in that way.")
    missing = sorted(c.name for c in table.columns[1:] if not c.nullable and not c.set_by_server and c.name not in run.fields)
    return Refusal(Rejection.INVALID, f"{', '.join(missing)} must be given.") if missing else None


def _bad_values(run: DecodedRun) -> Iterator[tuple[int, str]]:
    for name, values in run.fields.items():
        column = _column(run.table, name)
        if column is None:
            continue
        if name in run.mistyped:
            yield from _of_wrong_type(column, values)
            continue
        for place in bad_places(column, values):
            yield place, f"{name} {problem_in(column, values[place])}"


def _of_wrong_type(column: Column, values: list[Any]) -> Iterator[tuple[int, str]]:
    """One by one, after the column as a whole turned out not to be of its type."""
    for place, value in enumerate(values):
        try:
            decode_column(column.kind, [value], 1)
        except BlockError:
            yield place, f"{column.name} must be of type {column.kind.value}"
        else:
            if problem := problem_in(column, value):
                yield place, f"{column.name} {problem}"
