"""Answers of the signed-in student: POST and GET /attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon import records
from daemon.api.endpoints import Answer, Call, Endpoint
from daemon.api.intake import field_names, json_reader
from daemon.api.routes.paging import attempt_cursor, cut
from daemon.api.schemas.paging import OwnPageQuery
from daemon.api.schemas.study import Attempt, AttemptBatch, AttemptList, Attempts, NewAttempt, RecordedAttempt, RecordedAttempts
from daemon.learning.attempts import page_of
from daemon.models import study as stored
from domain.errors import ImmutableRow
from domain.ids import dashed, parse_id

_read_one, _read_batch, _read_list = json_reader(NewAttempt), json_reader(AttemptBatch), json_reader(AttemptList)


@dataclass(frozen=True, slots=True)
class Reported:
    """The attempts of a request; `path` is where they stand in it, with a place for the index unless it is a single one."""

    attempts: Sequence[NewAttempt]
    path: str
    single: bool = False

    def new_attempts(self) -> list[records.NewAttempt]:
        return [_new_attempt(a, self.path.format(place)) for place, a in enumerate(self.attempts)]


def read_attempts(body: bytes) -> Reported:
    """Decodes one attempt, an object with a list of them, or a list. Raises as `json_reader`."""
    if body.lstrip()[:1] == b"[":
        return Reported(_read_list(body), "$[{}]")
    if b'"attempts"' in body and "attempts" in field_names(body):
        return Reported(_read_batch(body).attempts, "$.attempts[{}]")
    return Reported([_read_one(body)], "$", single=True)


def record(call: Call) -> Answer:
    reported: Reported = call.body
    recorded = [_recorded(r) for r in call.device.records.record_attempts(call.student_id, reported.new_attempts())]
    status = 201 if any(r.created for r in recorded) else 200
    return Answer(recorded[0] if reported.single else RecordedAttempts(recorded), status)


def list_own(call: Call) -> Answer:
    query: OwnPageQuery = call.query
    rows = page_of(call.device.database, call.student_id, attempt_cursor(query.cursor), query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: f"{row.answered_at_ms}.{row.id}")
    return Answer(Attempts([_attempt(row) for row in page], cursor))


def _new_attempt(a: NewAttempt, path: str) -> records.NewAttempt:
    return records.NewAttempt(
        question_id=parse_id(a.question_id),
        correct=a.correct,
        purpose=a.purpose,
        answer=a.answer,
        answered_at_ms=a.answered_at_ms,
        active_ms=a.active_ms,
        confidence=a.confidence,
        id=None if a.id is None else parse_id(a.id),
        path=path,
    )


def _recorded(r: records.RecordedAttempt) -> RecordedAttempt:
    return RecordedAttempt(dashed(r.id), r.answered_at_ms, r.created)


def _attempt(row: stored.QuestionAttempt) -> Attempt:
    return Attempt(
        id=dashed(row.id),
        question_id=dashed(row.question_id),
        answer=row.answer,
        correct=row.correct == 1,
        answered_at_ms=row.answered_at_ms,
        active_ms=row.active_ms,
        confidence=row.confidence,
        purpose=row.purpose,
        device_id=dashed(row.device_id),
        corrected_at_ms=row.corrected_at_ms,
    )


ENDPOINTS = (
    Endpoint(
        "POST", "/attempts", record, "Record one answer, or up to 500: all of them or none. Sent again, they are not recorded twice.",
        {201: RecordedAttempt | RecordedAttempts, 200: RecordedAttempt | RecordedAttempts},
        body=NewAttempt | AttemptBatch | AttemptList, read_body=read_attempts, errors=(ImmutableRow,),
    ),
    Endpoint("GET", "/attempts", list_own, "One's own answers, newest first.", {200: Attempts}, query=OwnPageQuery),
)  # fmt: skip
