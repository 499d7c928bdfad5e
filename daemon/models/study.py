"""Answers, what follows from them, and plans."""

from __future__ import annotations

import peewee as pw

from daemon.models.base import SyncedRow, Table


class DifficultySnapshot(SyncedRow):
    """How hard the school's questions are; the newest counts."""

    content = pw.TextField()
    published_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "difficulty_snapshots"


class ModelWeights(SyncedRow):
    """Weights of the school's own for the mastery model named `model`; the newest counts."""

    model = pw.TextField()
    content = pw.TextField()
    published_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "model_weights"


class QuestionAttempt(SyncedRow):
    """One answer. `corrected_at_ms` is the server's correction of a wrong clock, `time_doubtful` its word that the time is a guess."""

    student_id = pw.TextField()
    question_id = pw.TextField()
    answer = pw.TextField(null=True)
    correct = pw.IntegerField(constraints=[pw.SQL("CHECK (correct IN (0, 1))")])
    answered_at_ms = pw.BigIntegerField()
    active_ms = pw.BigIntegerField(null=True)
    confidence = pw.IntegerField(null=True)
    purpose = pw.TextField()
    device_id = pw.TextField()
    corrected_at_ms = pw.BigIntegerField(null=True)
    time_doubtful = pw.IntegerField(null=True)

    class Meta:
        table_name = "question_attempts"
        without_rowid = True


QuestionAttempt.add_index(QuestionAttempt.student_id, QuestionAttempt.answered_at_ms, name="idx_attempts_student_timestamp")


class ConceptMastery(Table):
    """A cache: where a student stood with a concept at `computed_at_ms`."""

    student_id = pw.TextField()
    concept_id = pw.TextField()
    score = pw.DoubleField()
    evidence = pw.DoubleField()
    attempts = pw.BigIntegerField()
    correct_attempts = pw.BigIntegerField()
    last_attempt_at_ms = pw.BigIntegerField()
    level = pw.TextField()
    model_version = pw.TextField()
    computed_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "concept_mastery"
        primary_key = False


ConceptMastery.add_index(ConceptMastery.student_id, ConceptMastery.concept_id, name="idx_mastery_student_concept", unique=True)


class MasteryStale(Table):
    """A student whose attempts changed since their mastery was computed; `mark` is 0 while they only got new ones, and names the latest other change."""

    student_id = pw.TextField(primary_key=True)
    mark = pw.BigIntegerField(constraints=[pw.SQL("DEFAULT (random())")])

    class Meta:
        table_name = "mastery_stale"
        without_rowid = True


class StudyPlan(SyncedRow):
    """A generated plan; the newest of a student counts. `forecast` and `notes` are JSON."""

    student_id = pw.TextField()
    created_at_ms = pw.BigIntegerField()
    starts_on = pw.TextField()
    days = pw.IntegerField()
    planner_version = pw.TextField()
    forecast = pw.TextField(null=True)
    notes = pw.TextField(null=True)
    device_id = pw.TextField()

    class Meta:
        table_name = "study_plans"


StudyPlan.add_index(StudyPlan.student_id, StudyPlan.created_at_ms, name="idx_study_plans_student")


class StudyPlanItem(SyncedRow):
    """One line of a plan."""

    plan_id = pw.TextField()
    student_id = pw.TextField()
    concept_id = pw.TextField()
    day = pw.TextField()
    position = pw.IntegerField()
    kind = pw.TextField()
    minutes = pw.IntegerField()
    reason = pw.TextField()
    status = pw.TextField()
    moved_to = pw.TextField(null=True)
    clocks = pw.TextField(default="{}", constraints=[pw.SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "study_plan_items"


StudyPlanItem.add_index(StudyPlanItem.plan_id, StudyPlanItem.day, StudyPlanItem.position, name="idx_study_plan_items_plan")


class PlanRule(SyncedRow):
    """The school's word on a student's plans: `kind` is pin, exclude or day_off."""

    student_id = pw.TextField()
    kind = pw.TextField()
    concept_id = pw.TextField(null=True)
    day = pw.TextField(null=True)
    created_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "plan_rules"


PlanRule.add_index(PlanRule.student_id, name="idx_plan_rules_student")
