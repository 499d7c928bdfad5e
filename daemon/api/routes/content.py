"""The course: GET /topics, /concepts, /questions, /questions/{id}, /questions/next."""

from __future__ import annotations

import msgspec

from daemon import content
from daemon.api.endpoints import Answer, Call, Endpoint
from daemon.api.routes.paging import cut, id_cursor
from daemon.api.schemas.content import Concept, Concepts, ConceptsQuery, ContentQuery, Question, Questions, QuestionsQuery, Topic, Topics
from daemon.api.schemas.paging import OwnQuery
from daemon.api.schemas.study import ConceptLeft, NextQuestion, NextQuestionQuery
from daemon.learning import next_question
from daemon.learning.situation import situation
from daemon.models import content as stored
from domain.errors import NotFound
from domain.ids import Id, dashed, parse_id


def list_topics(call: Call) -> Answer:
    query: ContentQuery = call.query
    rows = content.topics(call.device.database, id_cursor(query.cursor), query.limit + 1, retired=query.retired)
    page, cursor = cut(rows, query.limit, lambda row: row.id)
    return Answer(Topics([_topic(row) for row in page], cursor))


def list_concepts(call: Call) -> Answer:
    query: ConceptsQuery = call.query
    topic_id = _id_or_none(query.topic_id)
    rows = content.concepts(call.device.database, topic_id, id_cursor(query.cursor), query.limit + 1, retired=query.retired)
    page, cursor = cut(rows, query.limit, lambda row: row.id)
    return Answer(Concepts([_concept(row) for row in page], cursor))


def list_questions(call: Call) -> Answer:
    query: QuestionsQuery = call.query
    topic_id, concept_id, after = _id_or_none(query.topic_id), _id_or_none(query.concept_id), id_cursor(query.cursor)
    rows = content.questions(call.device.database, topic_id, concept_id, after, query.limit + 1, retired=query.retired)
    page, cursor = cut(rows, query.limit, lambda row: row.id)
    return Answer(Questions([_question(row) for row in page], cursor))


def show_question(call: Call) -> Answer:
    return Answer(_question(content.question(call.device.database, call.row_id)))


def show_next_question(call: Call) -> Answer:
    database = call.device.database
    query: NextQuestionQuery = call.query
    choice = next_question.choose(call.device.engine, call.student_id, situation(call.device.clock), _id_or_none(query.topic_id))
    left = [ConceptLeft(dashed(c.concept_id), c.flagged, c.reason) for c in choice.left]
    if choice.question is None:
        return Answer(NextQuestion(None, None, None, None, None, None, left))
    question, chosen = content.question(database, Id(choice.question.question_id)), choice.question
    plan_item_id = dashed(choice.plan_item_id) if choice.plan_item_id else None
    asked_for = dashed(chosen.concept_id)
    return Answer(NextQuestion(_question(question), asked_for, chosen.chance, chosen.reason, choice.purpose, plan_item_id, left))


def _id_or_none(text: str | None) -> Id | None:
    return None if text is None else parse_id(text)


def _topic(row: stored.Topic) -> Topic:
    parent_id = dashed(row.parent_id) if row.parent_id else None
    return Topic(
        id=dashed(row.id),
        parent_id=parent_id,
        title=row.title,
        level=row.level,
        position=row.position,
        weightage=row.weightage,
        estimated_minutes=row.estimated_minutes,
        external_id=row.external_id,
        retired_at_ms=row.retired_at_ms,
    )


def _concept(row: stored.Concept) -> Concept:
    topic_ids = [dashed(t) for t in msgspec.json.decode(row.topic_ids)]
    return Concept(dashed(row.id), topic_ids, row.title, row.mastery_threshold, row.external_id, row.retired_at_ms)


def _question(row: stored.Question) -> Question:
    return Question(
        id=dashed(row.id),
        topic_id=dashed(row.topic_id),
        concept_ids=[dashed(c) for c in msgspec.json.decode(row.concept_ids)],
        kind=row.kind,
        stem=row.stem,
        choices=msgspec.Raw((row.choices or "null").encode()),
        answers=msgspec.Raw(row.answers.encode()),
        source=row.source,
        external_id=row.external_id,
        retired_at_ms=row.retired_at_ms,
    )


ENDPOINTS = (
    Endpoint("GET", "/topics", list_topics, "The syllabus.", {200: Topics}, query=ContentQuery),
    Endpoint("GET", "/concepts", list_concepts, "The concepts, of one topic or of all.", {200: Concepts}, query=ConceptsQuery),
    Endpoint(
        "GET", "/questions", list_questions, "Questions, of one topic, about one concept, or all.", {200: Questions}, query=QuestionsQuery
    ),
    Endpoint(
        "GET",
        "/questions/next",
        show_next_question,
        "What to ask next, and why.",
        {200: NextQuestion},
        query=NextQuestionQuery,
        errors=(NotFound,),
    ),
    Endpoint("GET", "/questions/<id>", show_question, "One question.", {200: Question}, query=OwnQuery, errors=(NotFound,)),
)
