"""The course."""

from __future__ import annotations

import peewee as pw

from daemon.models.base import SyncedRow


class Topic(SyncedRow):
    """A node of the syllabus; `weightage` is its share of the exam, in any unit."""

    parent_id = pw.TextField(null=True)
    title = pw.TextField()
    level = pw.TextField()
    position = pw.BigIntegerField()
    weightage = pw.DoubleField(null=True)
    estimated_minutes = pw.BigIntegerField(null=True)
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "topics"


class TopicPrerequisite(SyncedRow):
    """A topic to be learnt before another."""

    topic_id = pw.TextField()
    prerequisite_topic_id = pw.TextField()
    reason = pw.TextField(null=True)

    class Meta:
        table_name = "topic_prerequisites"


class Concept(SyncedRow):
    """What mastery is measured of; `topic_ids` is a JSON list."""

    topic_ids = pw.TextField()
    title = pw.TextField()
    mastery_threshold = pw.DoubleField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "concepts"


class Question(SyncedRow):
    """A question; `concept_ids`, `choices` and `answers` are JSON."""

    topic_id = pw.TextField()
    concept_ids = pw.TextField()
    kind = pw.TextField()
    stem = pw.TextField()
    choices = pw.TextField(null=True)
    answers = pw.TextField()
    source = pw.TextField(null=True)
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "questions"


Question.add_index(Question.topic_id, name="idx_questions_topic")
