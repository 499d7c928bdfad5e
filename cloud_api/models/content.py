"""The course."""

from __future__ import annotations

from peewee import BigIntegerField, DoubleField, IntegerField, JSONField, TextField, UUIDField

from cloud_api.models.base import SyncedRow, add_external_index, add_index, references


class Topic(SyncedRow):
    parent_id = UUIDField(null=True)
    title = TextField()
    level = TextField()
    position = IntegerField()
    weightage = DoubleField(null=True)
    estimated_minutes = IntegerField(null=True)
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "topics"
        constraints = (references("schools", "school_id"), references("topics", "parent_id"))


add_external_index(Topic, "idx_topics_external")
add_index(Topic, "idx_topics_feed", Topic.school_id, Topic.feed_no)


class TopicPrerequisite(SyncedRow):
    topic_id = UUIDField()
    prerequisite_topic_id = UUIDField()
    reason = TextField(null=True)

    class Meta:
        table_name = "topic_prerequisites"
        constraints = (references("topics", "topic_id"), references("topics", "prerequisite_topic_id"))


add_index(
    TopicPrerequisite,
    "idx_topic_prerequisites_pair",
    TopicPrerequisite.school_id,
    TopicPrerequisite.topic_id,
    TopicPrerequisite.prerequisite_topic_id,
    unique=True,
)
add_index(TopicPrerequisite, "idx_topic_prerequisites_feed", TopicPrerequisite.school_id, TopicPrerequisite.feed_no)


class Concept(SyncedRow):
    topic_ids = JSONField()
    title = TextField()
    mastery_threshold = DoubleField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "concepts"
        constraints = (references("schools", "school_id"),)


add_external_index(Concept, "idx_concepts_external")
add_index(Concept, "idx_concepts_feed", Concept.school_id, Concept.feed_no)


class Question(SyncedRow):
    topic_id = UUIDField()
    concept_ids = JSONField()
    kind = TextField()
    stem = TextField()
    choices = JSONField(null=True)
    answers = JSONField()
    source = TextField(null=True)
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "questions"
        constraints = (references("topics", "topic_id"),)


add_external_index(Question, "idx_questions_external")
add_index(Question, "idx_questions_feed", Question.school_id, Question.feed_no)
