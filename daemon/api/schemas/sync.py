"""Requests and answers about the daemon's work: its health, rounds, the outbox, conflicts, comparisons, bundles."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from daemon.api.endpoints import Input
from daemon.api.limits import RowId, one_of
from daemon.api.schemas.paging import Output, PageQuery
from daemon.queue.requeue import RETRY_MAX
from domain.operations import OperationState


class OperationsQuery(PageQuery, frozen=True):
    state: Annotated[str | None, one_of(*OperationState)] = None


OperationIds = Annotated[list[RowId], Meta(min_length=1, max_length=RETRY_MAX)]


class Verify(Input, frozen=True):
    """`content` compares what stands in the rows as well as their versions; it costs more."""

    content: bool = False


class Retry(Input, frozen=True):
    """The rejected operations to send again; without `ids` all of them, the oldest first, at most 500 a request."""

    ids: OperationIds | None = None


class Health(Output, frozen=True):
    status: str


class Status(Output, frozen=True):
    """The truth about sync. `state`: not_enrolled, unknown, waiting, pending, rejected, differs, or synced, which is only said when everything
    written here is at school. `last_verify_result`: match, repaired, mismatch or inconclusive, of the last comparison with the school's rows. `pending` and `rejected` count operations, `answers_pending` answers among the first. `notices` are sentences for the
    person who looks after the machine: settings that are not used, a content file that was refused."""

    state: str
    reason: str | None
    message: str | None
    pending: int
    rejected: int
    answers_pending: int
    school_name: str | None
    last_contact_ms: int | None
    last_push_ms: int | None
    last_pull_ms: int | None
    next_attempt_in_s: float | None
    last_verify_ms: int | None
    last_verify_result: str | None
    notices: list[str]


class SyncRound(Output, frozen=True):
    """`finished` is false when the round goes on after this answer; `outcome` is then null. `outcome` is `done`, or why it was not."""

    finished: bool
    outcome: str | None
    message: str | None
    pushed: int
    pulled: int
    rejected: int


class Verification(Output, frozen=True):
    """How the comparison with the school went: `result` is match, repaired, mismatch or inconclusive, null while it is still going on. `places` are the
    tables and scopes compared, `differed` those of them that differed at first, `repaired` the rows put right, `kept` those that the school lacks and
    that stay here."""

    finished: bool
    result: str | None
    message: str | None
    places: int
    differed: int
    repaired: int
    kept: int


class SyncOperation(Output, frozen=True):
    """One local change and what became of it. `code` and `message` say why it was rejected. `student_id` is whose row it concerns, null
    when that row has left this device."""

    op_no: int
    id: str
    table: str
    row_id: str
    student_id: str | None
    student_name: str | None
    kind: str
    state: str
    code: str | None
    message: str | None
    written_at_ms: int
    settled_at_ms: int | None


class SyncOperations(Output, frozen=True):
    items: list[SyncOperation]
    next_cursor: str | None


class SyncOperationWhole(SyncOperation, frozen=True):
    """The same with what it holds: `payload` maps fields to values, `base` an update's fields to [what stood there, its clock]. Of either that was damaged
    `damaged` is the one field, with its text."""

    payload: dict[str, Any]
    base: dict[str, Any] | None
    schema: int
    hlc: int


class UnsentOperations(Output, frozen=True):
    items: list[SyncOperationWhole]
    next_cursor: str | None


class RetriedOperations(Output, frozen=True):
    """`retried` operations are queued again, as the operations `op_nos`; `left` are rejected still."""

    retried: int
    op_nos: list[int]
    left: int


class BundleParties(Output, frozen=True):
    """Between whom bundles travel: this device of its school, and the public halves of its server's keys (hex), null where it has none."""

    device_id: str
    school_id: str
    server_verify_key: str | None
    server_seal_key: str | None


class BundleExport(Output, frozen=True):
    """What lies in the state folder to be sealed: operations, how many of them are answers, and how many more did not fit."""

    operations: int
    answers: int
    left: int


class BundleImport(Output, frozen=True):
    """What a bundle came to: operations settled and refused, rows applied, whether there are more at school; whether the log began anew, and
    whether its rows were left out for being older than what is here."""

    settled: int
    rejected: int
    rows: int
    more: bool
    anew: bool
    older: bool


class SyncConflict(Output, frozen=True):
    """A value that lost a merge. `kept_by` and `lost_by` are `school`, `this_device`, `another_device`, or null where nobody had set the
    field; `seen` is what the writer of the later value had before the eyes, where that is known. `restored_at_ms` is when the school took the
    lost value after all."""

    id: str
    student_id: str
    student_name: str | None
    table: str
    row_id: str
    field: str
    kept: Any
    kept_by: str | None
    lost: Any
    lost_by: str | None
    seen: Any
    rule: str
    noted_at_ms: int
    restored_at_ms: int | None


class SyncConflicts(Output, frozen=True):
    items: list[SyncConflict]
    next_cursor: str | None
