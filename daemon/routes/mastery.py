"""GET /mastery: where the signed-in student stands."""

from __future__ import annotations

from daemon import models
from daemon.endpoints import Answer, Call, Endpoint
from daemon.mastery import mastery_of
from daemon.routes.paging import cut, id_cursor
from daemon.schemas import Mastery, MasteryPage, OwnPageQuery
from domain.ids import dashed


def show(call: Call) -> Answer:
    query: OwnPageQuery = call.query
    rows = mastery_of(call.device.database, call.student_id, call.device.clock, id_cursor(query.cursor), query.limit + 1)
    page, cursor = cut(rows, query.limit, lambda row: row.concept_id)
    return Answer(MasteryPage([_mastery(row) for row in page], cursor))


def _mastery(row: models.ConceptMastery) -> Mastery:
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


ENDPOINTS = (Endpoint("GET", "/mastery", show, "Mastery of every concept met, as of now.", {200: MasteryPage}, query=OwnPageQuery),)
