"""Peewee models of the device's tables, without logic. `DeviceDatabase.open(MODELS)` binds them.

They follow migrations/device; tests/integration/daemon/test_models.py holds the two against each other. There are no foreign-key fields: replicas
arrive scope by scope, so that a row may be here before the row it names (docs/decisions/0004). Columns with JSON text stay text here; whoever
reads them decodes them.
"""

from __future__ import annotations

import peewee as pw


class User(pw.Model):
    """A student, teacher or administrator of the school."""

    id = pw.TextField(primary_key=True)
    role = pw.TextField()
    username = pw.TextField()
    display_name = pw.TextField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "users"
        strict_tables = True


User.add_index(User.username, name="idx_users_username")


class Class(pw.Model):
    """A class of the school."""

    id = pw.TextField(primary_key=True)
    name = pw.TextField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "classes"
        strict_tables = True


class ClassMember(pw.Model):
    """A user in a class, as student or teacher."""

    id = pw.TextField(primary_key=True)
    class_id = pw.TextField()
    user_id = pw.TextField()
    role = pw.TextField()
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "class_members"
        strict_tables = True


ClassMember.add_index(ClassMember.class_id, name="idx_class_members_class")
ClassMember.add_index(ClassMember.user_id, name="idx_class_members_user")


class Topic(pw.Model):
    """A node of the syllabus; `weightage` is its share of the exam, in any unit."""

    id = pw.TextField(primary_key=True)
    parent_id = pw.TextField(null=True)
    title = pw.TextField()
    level = pw.TextField()
    position = pw.BigIntegerField()
    weightage = pw.DoubleField(null=True)
    estimated_minutes = pw.BigIntegerField(null=True)
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "topics"
        strict_tables = True


class TopicPrerequisite(pw.Model):
    """A topic to be learnt before another."""

    id = pw.TextField(primary_key=True)
    topic_id = pw.TextField()
    prerequisite_topic_id = pw.TextField()
    reason = pw.TextField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "topic_prerequisites"
        strict_tables = True


class Concept(pw.Model):
    """What mastery is measured of; `topic_ids` is a JSON list."""

    id = pw.TextField(primary_key=True)
    topic_ids = pw.TextField()
    title = pw.TextField()
    mastery_threshold = pw.DoubleField()
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "concepts"
        strict_tables = True


class Question(pw.Model):
    """A question; `concept_ids`, `choices` and `answers` are JSON."""

    id = pw.TextField(primary_key=True)
    topic_id = pw.TextField()
    concept_ids = pw.TextField()
    kind = pw.TextField()
    stem = pw.TextField()
    choices = pw.TextField(null=True)
    answers = pw.TextField()
    source = pw.TextField(null=True)
    external_id = pw.TextField(null=True)
    retired_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "questions"
        strict_tables = True


Question.add_index(Question.topic_id, name="idx_questions_topic")


class DifficultySnapshot(pw.Model):
    """How hard the school's questions are; the newest counts."""

    id = pw.TextField(primary_key=True)
    content = pw.TextField()
    published_at_ms = pw.BigIntegerField()
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "difficulty_snapshots"
        strict_tables = True


class ModelWeights(pw.Model):
    """Weights of the school's own for the mastery model named `model`; the newest counts."""

    id = pw.TextField(primary_key=True)
    model = pw.TextField()
    content = pw.TextField()
    published_at_ms = pw.BigIntegerField()
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "model_weights"
        strict_tables = True


class StudentProfile(pw.Model):
    """What planning needs to know of a student; the id is the student's. `available_minutes` is a JSON list, Monday first, `days_off` one of dates."""

    id = pw.TextField(primary_key=True)
    grade = pw.TextField(null=True)
    exam_on = pw.TextField(null=True)
    available_minutes = pw.TextField(null=True)
    days_off = pw.TextField(null=True)
    clocks = pw.TextField(default="{}", constraints=[pw.SQL("DEFAULT '{}'")])
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "student_profiles"
        strict_tables = True


class QuestionAttempt(pw.Model):
    """One answer. `corrected_at_ms` is the server's correction of a wrong clock, `time_doubtful` its word that the time is a guess."""

    id = pw.TextField(primary_key=True)
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
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "question_attempts"
        without_rowid = True
        strict_tables = True


QuestionAttempt.add_index(QuestionAttempt.student_id, QuestionAttempt.answered_at_ms, name="idx_attempts_student_timestamp")


class ConceptMastery(pw.Model):
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
        strict_tables = True


ConceptMastery.add_index(ConceptMastery.student_id, ConceptMastery.concept_id, name="idx_mastery_student_concept", unique=True)


class MasteryStale(pw.Model):
    """A student whose attempts changed since their mastery was computed; `mark` is 0 while they only got new ones, and names the latest other change."""

    student_id = pw.TextField(primary_key=True)
    mark = pw.BigIntegerField(constraints=[pw.SQL("DEFAULT (random())")])

    class Meta:
        table_name = "mastery_stale"
        without_rowid = True
        strict_tables = True


class StudyPlan(pw.Model):
    """A generated plan; the newest of a student counts. `forecast` and `notes` are JSON."""

    id = pw.TextField(primary_key=True)
    student_id = pw.TextField()
    created_at_ms = pw.BigIntegerField()
    starts_on = pw.TextField()
    days = pw.IntegerField()
    planner_version = pw.TextField()
    forecast = pw.TextField(null=True)
    notes = pw.TextField(null=True)
    device_id = pw.TextField()
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "study_plans"
        strict_tables = True


StudyPlan.add_index(StudyPlan.student_id, StudyPlan.created_at_ms, name="idx_study_plans_student")


class StudyPlanItem(pw.Model):
    """One line of a plan."""

    id = pw.TextField(primary_key=True)
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
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "study_plan_items"
        strict_tables = True


StudyPlanItem.add_index(StudyPlanItem.plan_id, StudyPlanItem.day, StudyPlanItem.position, name="idx_study_plan_items_plan")


class PlanRule(pw.Model):
    """The school's word on a student's plans: `kind` is pin, exclude or day_off."""

    id = pw.TextField(primary_key=True)
    student_id = pw.TextField()
    kind = pw.TextField()
    concept_id = pw.TextField(null=True)
    day = pw.TextField(null=True)
    created_at_ms = pw.BigIntegerField()
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "plan_rules"
        strict_tables = True


PlanRule.add_index(PlanRule.student_id, name="idx_plan_rules_student")


class SyncConflict(pw.Model):
    """A value that lost a merge, as the server keeps it. Values and clocks are JSON."""

    id = pw.TextField(primary_key=True)
    student_id = pw.TextField()
    table_name = pw.TextField()
    row_id = pw.TextField()
    field = pw.TextField()
    base_value = pw.TextField(null=True)
    base_clock = pw.TextField(null=True)
    kept_value = pw.TextField(null=True)
    kept_clock = pw.TextField(null=True)
    lost_value = pw.TextField(null=True)
    lost_clock = pw.TextField()
    device_id = pw.TextField()
    rule = pw.TextField()
    created_at_ms = pw.BigIntegerField()
    restored_at_ms = pw.BigIntegerField(null=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)

    class Meta:
        table_name = "sync_conflicts"
        strict_tables = True


SyncConflict.add_index(SyncConflict.student_id, SyncConflict.created_at_ms, name="idx_sync_conflicts_student")


class Identity(pw.Model):
    """Which device of which school this is: one row, or none."""

    one = pw.IntegerField(primary_key=True, constraints=[pw.SQL("CHECK (one = 1)")])
    device_id = pw.TextField()
    school_id = pw.TextField()
    school_name = pw.TextField()
    cloud_url = pw.TextField()
    server_epoch = pw.TextField()
    instance = pw.TextField()
    server_seal_key = pw.TextField(null=True)
    server_verify_key = pw.TextField(null=True)
    enrolled_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "identity"
        strict_tables = True


class SyncProgress(pw.Model):
    """How far the operation log is settled: one row, or none."""

    one = pw.IntegerField(primary_key=True, constraints=[pw.SQL("CHECK (one = 1)")])
    incarnation = pw.TextField()
    seq_base = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    acked_op_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    chain = pw.TextField()
    durable_op_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    rebaselining = pw.TextField(
        default="no", constraints=[pw.SQL("DEFAULT 'no' CHECK (rebaselining IN ('no', 'server_rows', 'all_rows'))")]
    )
    last_contact_ms = pw.BigIntegerField(null=True)
    last_push_ms = pw.BigIntegerField(null=True)
    last_pull_ms = pw.BigIntegerField(null=True)
    last_verify_ms = pw.BigIntegerField(null=True)
    last_verify_result = pw.TextField(null=True)

    class Meta:
        table_name = "sync_progress"
        strict_tables = True


class SyncOperation(pw.Model):
    """The outbox: one local change of one row."""

    op_no = pw.AutoField(constraints=[pw.SQL("AUTOINCREMENT")])
    op_id = pw.TextField()
    table_name = pw.TextField()
    row_id = pw.TextField()
    kind = pw.TextField()
    schema_version = pw.IntegerField()
    hlc = pw.BigIntegerField()
    wall_ms = pw.BigIntegerField()
    mono_ms = pw.BigIntegerField()
    boot_no = pw.IntegerField(constraints=[pw.SQL("REFERENCES boots (boot_no)")])
    payload = pw.TextField()
    base = pw.TextField(null=True)
    state = pw.TextField(default="pending", constraints=[pw.SQL("DEFAULT 'pending' CHECK (state IN ('pending', 'synced', 'rejected'))")])
    code = pw.TextField(null=True)
    message = pw.TextField(null=True)
    settled_at_ms = pw.BigIntegerField(null=True)

    class Meta:
        table_name = "sync_operations"
        strict_tables = True


SyncOperation.add_index(SyncOperation.row_id, name="idx_sync_pending", where=pw.SQL("state = 'pending'"))
SyncOperation.add_index(SyncOperation.hlc, name="idx_sync_hlc", where=pw.SQL("hlc > 0"))
SyncOperation.add_index(SyncOperation.op_no, name="idx_sync_rejected", where=pw.SQL("state = 'rejected'"))


class Boot(pw.Model):
    """A boot of the machine under which operations were written."""

    boot_no = pw.AutoField()
    boot_id = pw.TextField(constraints=[pw.SQL("UNIQUE")])  # unique=True would stand for an index with a name of its own

    class Meta:
        table_name = "boots"
        strict_tables = True


class Cursor(pw.Model):
    """A scope that this device follows, and the feed number up to which it has everything."""

    scope = pw.TextField(primary_key=True)
    cursor = pw.BigIntegerField()

    class Meta:
        table_name = "cursors"
        without_rowid = True
        strict_tables = True


class Shadow(pw.Model):
    """The server's version of a row that has changes still queued here."""

    table_name = pw.TextField()
    row_id = pw.TextField()
    data = pw.TextField()

    class Meta:
        table_name = "shadows"
        primary_key = pw.CompositeKey("table_name", "row_id")
        without_rowid = True
        strict_tables = True


class App(pw.Model):
    """A learning app that may use the localhost API; of its token only the hash is kept. `origins` is a JSON array."""

    id = pw.TextField(primary_key=True)
    name = pw.TextField(constraints=[pw.SQL("UNIQUE")])
    token_hash = pw.TextField(constraints=[pw.SQL("UNIQUE")])
    origins = pw.TextField(default="[]", constraints=[pw.SQL("DEFAULT '[]'")])
    created_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "apps"
        without_rowid = True
        strict_tables = True


class StudentSession(pw.Model):
    """A student signed in to a learning app; of the token only its hash is kept."""

    token_hash = pw.TextField(primary_key=True)
    student_id = pw.TextField()
    app_id = pw.TextField()
    created_at_ms = pw.BigIntegerField()
    used_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "student_sessions"
        without_rowid = True
        strict_tables = True


class StudentPin(pw.Model):
    """What a student's PIN is checked with on this device, and under which key it was made."""

    student_id = pw.TextField(primary_key=True)
    verifier = pw.TextField()
    key_id = pw.TextField()
    set_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "student_pins"
        without_rowid = True
        strict_tables = True


class SignInTries(pw.Model):
    """Wrong tries of a student since the last right one; the time is that of the boot's monotonic clock."""

    student_id = pw.TextField(primary_key=True)
    failures = pw.BigIntegerField()
    failed_at_mono_ms = pw.BigIntegerField()
    boot_id = pw.TextField()

    class Meta:
        table_name = "sign_in_tries"
        without_rowid = True
        strict_tables = True


MODELS: tuple[type[pw.Model], ...] = (
    User, Class, ClassMember, Topic, TopicPrerequisite, Concept, Question, DifficultySnapshot, ModelWeights, StudentProfile, QuestionAttempt, ConceptMastery, MasteryStale,
    StudyPlan, StudyPlanItem, PlanRule, SyncConflict, Identity, SyncProgress, SyncOperation, Boot, Cursor, Shadow, App,
    StudentSession, StudentPin, SignInTries,
)  # fmt: skip
