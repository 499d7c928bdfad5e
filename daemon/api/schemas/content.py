"""Requests and answers about the course: topics, concepts, questions."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from daemon.api.limits import RowId, limited
from daemon.api.schemas.paging import Output, OwnPageQuery

# Handed on as they are stored.
_TEXTS = {"type": "array", "items": {"type": "string"}}
Texts = Annotated[Any, Meta(extra_json_schema=_TEXTS)]
TextsOrNone = Annotated[Any, Meta(extra_json_schema={"anyOf": [_TEXTS, {"type": "null"}]})]
Retired = Annotated[bool, Meta(description="Whether retired content is shown as well.")]


class ContentQuery(OwnPageQuery, frozen=True):
    retired: Retired = False


class ConceptsQuery(ContentQuery, frozen=True):
    topic_id: RowId | None = None


class QuestionsQuery(ConceptsQuery, frozen=True):
    concept_id: RowId | None = None


class Topic(Output, frozen=True):
    id: str
    parent_id: str | None
    title: str
    level: str
    position: int
    weightage: float | None
    estimated_minutes: int | None
    external_id: str | None
    retired_at_ms: int | None


class Topics(Output, frozen=True):
    items: list[Topic]
    next_cursor: str | None


class Concept(Output, frozen=True):
    id: str
    topic_ids: list[str]
    title: str
    mastery_threshold: float
    external_id: str | None
    retired_at_ms: int | None


class Concepts(Output, frozen=True):
    items: list[Concept]
    next_cursor: str | None


class Question(Output, frozen=True):
    """A question with what judging an answer needs: `answers` are the right ones, each by itself. `choices` are what a multiple choice offers, its right
    answers among them, else null. In all three texts TeX stands between `$$`."""

    id: str
    topic_id: str
    concept_ids: list[str]
    kind: Annotated[str, limited("questions", "kind")]
    stem: str
    choices: TextsOrNone
    answers: Texts
    source: str | None
    external_id: str | None
    retired_at_ms: int | None


class Questions(Output, frozen=True):
    items: list[Question]
    next_cursor: str | None
