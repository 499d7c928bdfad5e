"""Reading the course: topics, concepts and questions, a page at a time by id; and the school's people of one student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import peewee as pw

from daemon.database import DeviceDatabase
from daemon.models.content import Concept, Question, Topic
from daemon.models.people import Class, ClassMember, StudentProfile, User
from domain.errors import NotFound
from domain.ids import Id

Row = TypeVar("Row", Topic, Concept, Question)


def topics(database: DeviceDatabase, after: str, limit: int, *, retired: bool) -> list[Topic]:
    """At most `limit` topics with ids behind `after`."""
    return _page(database, Topic, Topic.select(), after, limit, retired)


def concepts(database: DeviceDatabase, topic_id: Id | None, after: str, limit: int, *, retired: bool) -> list[Concept]:
    """At most `limit` concepts, of one topic or of all."""
    query = Concept.select()
    if topic_id is not None:
        query = query.where(_lists(Concept.topic_ids, topic_id))
    return _page(database, Concept, query, after, limit, retired)


def questions(
    database: DeviceDatabase, topic_id: Id | None, concept_id: Id | None, after: str, limit: int, *, retired: bool
) -> list[Question]:
    """At most `limit` questions, of one topic, about one concept, both, or all."""
    query = Question.select()
    if topic_id is not None:
        query = query.where(Question.topic_id == topic_id)
    if concept_id is not None:
        query = query.where(_lists(Question.concept_ids, concept_id))
    return _page(database, Question, query, after, limit, retired)


def question(database: DeviceDatabase, question_id: Id) -> Question:
    """One question, retired or not. Raises NotFound."""
    with database.read():
        found = Question.get_or_none(Question.id == question_id)
    if found is None:
        raise NotFound("There is no such question on this device.")
    return found


def student(database: DeviceDatabase, student_id: Id) -> tuple[User, StudentProfile | None, list[Class]]:
    """A student with profile (None while there is none) and classes. Raises NotFound."""
    classes = Class.select().join(ClassMember, on=(ClassMember.class_id == Class.id)).where(ClassMember.user_id == student_id)
    with database.read():
        user = User.get_or_none(User.id == student_id)
        profile = StudentProfile.get_or_none(StudentProfile.id == student_id)
        in_classes = list(classes.order_by(Class.name, Class.id))
    if user is None:
        raise NotFound("There is no such student on this device.")
    return user, profile, in_classes


def concept_titles(database: DeviceDatabase, concept_ids: Sequence[str]) -> dict[str, str]:
    """Concept id -> title, of those that are here, retired or not."""
    query = Concept.select(Concept.id, Concept.title).where(Concept.id.in_(set(concept_ids)))
    with database.read():
        return {concept.id: concept.title for concept in query}


def _page(database: DeviceDatabase, model: type[Row], query: pw.ModelSelect[Row], after: str, limit: int, retired: bool) -> list[Row]:
    if not retired:
        query = query.where(model.retired_at_ms.is_null())
    with database.read():
        return list(query.where(model.id > after).order_by(model.id).limit(limit))


def _lists(column: pw.TextField, id_: Id) -> pw.Expression:
    """Whether a column with a JSON list of ids holds `id_`. Ids are 32 hex digits, so that the text within quotes can be nothing else."""
    return column.contains(f'"{id_}"')
