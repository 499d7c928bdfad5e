"""Answers, what follows from them, and plans."""

from __future__ import annotations

from peewee import (
    SQL,
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DoubleField,
    IntegerField,
    JSONField,
    Model,
    SmallIntegerField,
    TextField,
    UUIDField,
)

from cloud_api.models.base import JSONTextField, SyncedRow, add_index, references


class DifficultySnapshot(SyncedRow):
    content = TextField()
    published_at_ms = BigIntegerField()

    class Meta:
        table_name = "difficulty_snapshots"
        constraints = (references("schools", "school_id"),)


add_index(DifficultySnapshot, "idx_difficulty_snapshots_feed", DifficultySnapshot.school_id, DifficultySnapshot.feed_no)


class ModelWeights(SyncedRow):
    model = TextField()
    content = TextField()
    published_at_ms = BigIntegerField()

    class Meta:
        table_name = "model_weights"
        constraints = (references("schools", "school_id"),)


add_index(ModelWeights, "idx_model_weights_feed", ModelWeights.school_id, ModelWeights.feed_no)


class QuestionAttempt(SyncedRow):
    student_id = UUIDField()
    question_id = UUIDField()
    answer = TextField(null=True)
    correct = BooleanField()
    answered_at_ms = BigIntegerField()
    active_ms = IntegerField(null=True, constraints=[SQL("CHECK (active_ms >= 0)")])
    confidence = SmallIntegerField(null=True, constraints=[SQL("CHECK (confidence BETWEEN 1 AND 4)")])
    purpose = TextField(constraints=[SQL("CHECK (purpose IN ('plan', 'review', 'quiz', 'free'))")])
    device_id = UUIDField()
    corrected_at_ms = BigIntegerField(null=True)
    time_doubtful = BooleanField(null=True)

    class Meta:
        table_name = "question_attempts"


add_index(
    QuestionAttempt, "idx_attempts_student_timestamp", QuestionAttempt.school_id, QuestionAttempt.student_id, QuestionAttempt.answered_at_ms
)
add_index(QuestionAttempt, "idx_attempts_feed", QuestionAttempt.school_id, QuestionAttempt.student_id, QuestionAttempt.feed_no)


class ConceptMastery(Model):
    school_id = UUIDField()
    student_id = UUIDField()
    concept_id = UUIDField()
    score = DoubleField()
    evidence = DoubleField()
    attempts = IntegerField()
    correct_attempts = IntegerField()
    last_attempt_at_ms = BigIntegerField()
    level = TextField()
    model_version = TextField()
    computed_at_ms = BigIntegerField()

    class Meta:
        table_name = "concept_mastery"
        constraints = (references("users", "student_id"),)
        primary_key = False


add_index(
    ConceptMastery,
    "idx_mastery_student_concept",
    ConceptMastery.school_id,
    ConceptMastery.student_id,
    ConceptMastery.concept_id,
    unique=True,
)


class MasteryFold(Model):
    school_id = UUIDField()
    student_id = UUIDField()
    feed_no = BigIntegerField()
    model_version = TextField()

    class Meta:
        table_name = "mastery_folds"
        constraints = (references("users", "student_id"),)
        primary_key = CompositeKey("school_id", "student_id")


class StudentFigures(Model):
    school_id = UUIDField()
    student_id = UUIDField()
    feed_no = BigIntegerField()
    questions_no = BigIntegerField()
    engine = TextField()
    answers = BigIntegerField()
    mastery = JSONTextField()
    days = JSONTextField()
    questions = JSONTextField()

    class Meta:
        table_name = "student_figures"
        constraints = (references("users", "student_id"),)
        primary_key = CompositeKey("school_id", "student_id")


class StudyPlan(SyncedRow):
    student_id = UUIDField()
    created_at_ms = BigIntegerField()
    starts_on = TextField()
    days = IntegerField()
    planner_version = TextField()
    forecast = JSONField(null=True)
    notes = JSONField(null=True)
    device_id = UUIDField()

    class Meta:
        table_name = "study_plans"
        constraints = (references("users", "student_id"),)


add_index(StudyPlan, "idx_study_plans_feed", StudyPlan.school_id, StudyPlan.student_id, StudyPlan.feed_no)


class StudyPlanItem(SyncedRow):
    plan_id = UUIDField()
    student_id = UUIDField()
    concept_id = UUIDField()
    day = TextField()
    position = IntegerField()
    kind = TextField()
    minutes = IntegerField()
    reason = TextField()
    status = TextField()
    moved_to = TextField(null=True)
    clocks = JSONField(constraints=[SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "study_plan_items"
        constraints = (references("study_plans", "plan_id"), references("concepts", "concept_id"))


add_index(StudyPlanItem, "idx_study_plan_items_feed", StudyPlanItem.school_id, StudyPlanItem.student_id, StudyPlanItem.feed_no)
add_index(StudyPlanItem, "idx_study_plan_items_plan", StudyPlanItem.school_id, StudyPlanItem.plan_id)


class PlanRule(SyncedRow):
    student_id = UUIDField()
    kind = TextField()
    concept_id = UUIDField(null=True)
    day = TextField(null=True)
    created_at_ms = BigIntegerField()
    created_by = TextField(constraints=[SQL("DEFAULT ''")])
    # For whose students it was made; none for a single student.
    class_id = UUIDField(null=True)

    class Meta:
        table_name = "plan_rules"
        constraints = (references("users", "student_id"), references("concepts", "concept_id"), references("classes", "class_id"))


add_index(PlanRule, "idx_plan_rules_feed", PlanRule.school_id, PlanRule.student_id, PlanRule.feed_no)
add_index(PlanRule, "idx_plan_rules_class", PlanRule.school_id, PlanRule.class_id, where=PlanRule.class_id.is_null(False))
