"""GET /mastery and /mastery/{concept id}: where the signed-in student stands, and why."""

from __future__ import annotations

from daemon.api.endpoints import Answer, Call, Endpoint
from daemon.api.routes.paging import cut, id_cursor
from daemon.api.schemas.paging import OwnPageQuery, OwnQuery
from daemon.api.schemas.study import ExplainedMastery, Mastery, MasteryPage, Share
from daemon.learning.mastery import explained, mastery_of
from daemon.models import study as stored
from domain.errors import NotFound
from domain.ids import dashed


def show(call: Call) -> Answer:
    query: OwnPageQuery = call.query
    device = call.device
    rows = mastery_of(device.database, call.student_id, device.clock, id_cursor(query.cursor), query.limit + 1, device.engine.histories)
    page, cursor = cut(rows, query.limit, lambda row: row.concept_id)
    return Answer(MasteryPage([_mastery(row) for row in page], cursor))


def explain(call: Call) -> Answer:
    now_ms = call.device.clock.now_ms()
    why = explained(call.device.engine.histories, call.student_id, call.row_id, now_ms)
    shares = [Share(share.part.value, share.added, share.reason) for share in why.shares]
    return Answer(ExplainedMastery(dashed(call.row_id), why.start, shares, why.score, now_ms))


def _mastery(row: stored.ConceptMastery) -> Mastery:
    return Mastery(
        concept_id=dashed(row.concept_id),
        score=row.score,
        level=row.level,
        evidence=row.evidence,
        attempts=row.attempts,
        correct_attempts=row.correct_attempts,
        last_attempt_at_ms=row.last_attempt_at_ms,
        model_version=row.model_version,
        computed_at_ms=row.computed_at_ms,
    )


ENDPOINTS = (
    Endpoint("GET", "/mastery", show, "Mastery of every concept met, as of now.", {200: MasteryPage}, query=OwnPageQuery),
    Endpoint(
        "GET",
        "/mastery/<id>",
        explain,
        "Why the score of a concept is what it is.",
        {200: ExplainedMastery},
        query=OwnQuery,
        errors=(NotFound,),
    ),
)
