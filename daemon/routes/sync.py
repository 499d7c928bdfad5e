"""Sync as apps and the command line see it: GET /status, POST /sync, GET /sync/operations, GET /sync/conflicts."""

from __future__ import annotations

from daemon import models, sync_log
from daemon.endpoints import Access, Answer, Call, Endpoint
from daemon.routes.paging import cut, number_cursor
from daemon.schemas import OperationsQuery, PageQuery, Status, SyncConflicts, SyncOperation, SyncOperations, SyncRound
from domain.ids import dashed


def status(call: Call) -> Answer:
    device = call.device
    identity = device.identity.current()
    with device.database.read() as conn:
        answers = sync_log.answers_pending(conn)
    # Asked last: what is written between the two makes it say `pending`, never `synced` beside an answer that waits.
    state = device.sync_state()
    return Answer(
        Status(
            state=state.state,
            reason=state.reason,
            message=state.message,
            pending=state.pending,
            rejected=state.rejected,
            answers_pending=min(answers, state.pending),
            school_name=identity.school_name if identity else None,
            last_contact_ms=state.last_contact_ms,
            last_push_ms=state.last_push_ms,
            last_pull_ms=state.last_pull_ms,
            next_attempt_in_s=state.next_attempt_in_s,
            notices=list(device.notices()),
        )
    )


def sync(call: Call) -> Answer:
    result = call.device.sync.run()
    if result is None:
        return Answer(SyncRound(False, None, None, 0, 0, 0), 202)
    return Answer(SyncRound(True, result.outcome, result.message, result.pushed, result.pulled, result.rejected))


def list_operations(call: Call) -> Answer:
    query: OperationsQuery = call.query
    before = number_cursor(query.cursor)
    rows = sync_log.operations(call.device.database, call.student, query.state, before, query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: row.op_no)
    return Answer(SyncOperations([_operation(row) for row in page], cursor))


def list_conflicts(call: Call) -> Answer:
    return Answer(SyncConflicts([], None))


def _operation(row: models.SyncOperation) -> SyncOperation:
    return SyncOperation(
        op_no=row.op_no,
        id=dashed(row.op_id),
        table=row.table_name,
        row_id=dashed(row.row_id),
        kind=row.kind,
        state=row.state,
        code=row.code,
        message=row.message,
        written_at_ms=row.wall_ms,
        settled_at_ms=row.settled_at_ms,
    )


_WHO = Access.STUDENT_OR_CONTROL

ENDPOINTS = (
    Endpoint("GET", "/status", status, "Whether everything written here is at school.", {200: Status}, Access.OPEN),
    Endpoint("POST", "/sync", sync, "Sync now and say how it went; 202 when it takes longer.", {200: SyncRound, 202: SyncRound}, _WHO),
    Endpoint(
        "GET", "/sync/operations", list_operations,
        "What became of each change, newest first: of the student's own, or with the control token of all.",
        {200: SyncOperations}, _WHO, OperationsQuery,
    ),
    Endpoint("GET", "/sync/conflicts", list_conflicts, "Changes that lost a merge. Always empty so far.", {200: SyncConflicts}, _WHO, PageQuery),
)  # fmt: skip
