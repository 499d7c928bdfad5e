"""Sync as apps and the command line see it: GET /status, POST /sync, and what became of each change below /sync."""

from __future__ import annotations

from daemon.api import sync_answers
from daemon.api.endpoints import Access, Answer, Call, Device, Endpoint
from daemon.api.routes.paging import conflict_cursor, cut, number_cursor
from daemon.api.schemas.paging import PageQuery
from daemon.api.schemas.sync import (
    BundleExport,
    BundleImport,
    BundleParties,
    OperationsQuery,
    RetriedOperations,
    Retry,
    Status,
    SyncConflicts,
    SyncOperations,
    SyncOperationWhole,
    SyncRound,
    UnsentOperations,
    Verification,
    Verify,
)
from daemon.queue import requeue, sync_log
from domain.errors import BundleRefused, Conflict, NotEnrolled, NotFound, OperatorError
from domain.ids import parse_id


def status(call: Call) -> Answer:
    return Answer(status_of(call.device))


def status_of(device: Device) -> Status:
    """Whether everything written here is at school; also for the device page."""
    identity = device.identity.current()
    with device.database.read() as conn:
        answers = sync_log.answers_pending(conn)
    # Asked last: what is written between the two makes it say `pending`, never `synced` beside an answer that waits.
    state = device.sync_state()
    return Status(
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
        last_verify_ms=state.last_verify_ms,
        last_verify_result=state.last_verify_result,
        notices=list(device.notices()),
    )


def sync(call: Call) -> Answer:
    result = call.device.sync.run()
    if result is None:
        return Answer(SyncRound(False, None, None, 0, 0, 0), 202)
    return Answer(SyncRound(True, result.outcome, result.message, result.pushed, result.pulled, result.rejected))


def verify(call: Call) -> Answer:
    body: Verify | None = call.body
    done = call.device.verify(body is not None and body.content)
    if done is None:
        return Answer(Verification(False, None, None, 0, 0, 0, 0), 202)
    return Answer(Verification(True, done.result.value, done.message, done.places, done.differed, done.repaired, done.kept))


def list_operations(call: Call) -> Answer:
    query: OperationsQuery = call.query
    before = number_cursor(query.cursor)
    rows = sync_log.operations(call.device.database, call.student, query.state, before, query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: row.op_no)
    return Answer(SyncOperations(sync_answers.operations(call.device.database, page), cursor))


def show_operation(call: Call) -> Answer:
    row = sync_log.operation(call.device.database, call.student, call.row_id)
    return Answer(sync_answers.whole_operations(call.device.database, [row])[0])


def list_unsent(call: Call) -> Answer:
    query: PageQuery = call.query
    rows = sync_log.unsent(call.device.database, number_cursor(query.cursor) or 0, query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: row.op_no)
    return Answer(UnsentOperations(sync_answers.whole_operations(call.device.database, page), cursor))


def retry(call: Call) -> Answer:
    body: Retry = call.body
    op_ids = None if body.ids is None else [parse_id(id_) for id_ in body.ids]
    now_ms = call.device.clock.now_ms()
    done = call.device.database.write(lambda conn: requeue.retry(conn, op_ids, now_ms))
    if done.op_nos:
        call.device.records.on_operation()
    return Answer(RetriedOperations(len(done.op_nos), list(done.op_nos), done.left))


def list_conflicts(call: Call) -> Answer:
    query: PageQuery = call.query
    rows = sync_log.conflicts(call.device.database, call.student, conflict_cursor(query.cursor), query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: f"{row.created_at_ms}.{row.id}")
    identity = call.device.identity.current()
    device_id = identity.device_id if identity else None
    return Answer(SyncConflicts(sync_answers.conflicts(call.device.database, device_id, page), cursor))


def bundle_parties(call: Call) -> Answer:
    found = call.device.bundles.parties()
    return Answer(BundleParties(found.device_id, found.school_id, found.server_verify_key, found.server_seal_key))


def export_bundle(call: Call) -> Answer:
    made = call.device.bundles.export()
    return Answer(BundleExport(made.operations, made.answers, made.left))


def import_bundle(call: Call) -> Answer:
    taken = call.device.bundles.take()
    return Answer(BundleImport(taken.settled, taken.rejected, taken.rows, taken.more, taken.anew, taken.older))


_WHO = Access.STUDENT_OR_CONTROL

ENDPOINTS = (
    Endpoint("GET", "/status", status, "Whether everything written here is at school.", {200: Status}, Access.OPEN),
    Endpoint("POST", "/sync", sync, "Sync now and say how it went; 202 when it takes longer.", {200: SyncRound, 202: SyncRound}, _WHO),
    Endpoint(
        "POST", "/sync/verify", verify, "Compare this device with its school now, and put right what differs; 202 when it takes longer.",
        {200: Verification, 202: Verification}, Access.CONTROL, body=Verify, body_optional=True,
    ),
    Endpoint(
        "GET", "/sync/operations", list_operations,
        "What became of each change, newest first: of the student's own, or with the control token of all.",
        {200: SyncOperations}, _WHO, OperationsQuery,
    ),
    Endpoint(
        "GET", "/sync/operations/<id>", show_operation, "One change with what it holds.", {200: SyncOperationWhole}, _WHO, errors=(NotFound,)
    ),
    Endpoint(
        "POST", "/sync/retry", retry, "Send rejected changes once more, at the end of the log.",
        {200: RetriedOperations}, Access.CONTROL, body=Retry, body_optional=True, errors=(NotFound, Conflict),
    ),
    Endpoint(
        "GET", "/sync/unsent", list_unsent, "Everything that is not at school, whole, oldest first.",
        {200: UnsentOperations}, Access.CONTROL, PageQuery,
    ),
    Endpoint("GET", "/sync/bundle", bundle_parties, "Between whom bundles travel.", {200: BundleParties}, Access.CONTROL, errors=(NotEnrolled,)),
    Endpoint(
        "POST", "/sync/bundle/export", export_bundle, "Lay down what is not at school, for `carrel bundle export`.",
        {200: BundleExport}, Access.CONTROL, errors=(OperatorError,),
    ),
    Endpoint(
        "POST", "/sync/bundle/import", import_bundle, "Take in what `carrel bundle import` has laid down.",
        {200: BundleImport}, Access.CONTROL, errors=(BundleRefused, NotFound, OperatorError),
    ),
    Endpoint(
        "GET", "/sync/conflicts", list_conflicts,
        "Values that lost a merge, newest first: the student's own, or with the control token all.", {200: SyncConflicts}, _WHO, PageQuery,
    ),
)  # fmt: skip
