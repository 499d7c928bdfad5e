"""The server's tables as peewee models: unbound, without logic, in the order of the first migration.

They describe the whole schema, to the last CHECK, for whoever drafts or checks a migration or makes a database without migrations; tests hold
them against the migrated database and the registry. The queries of this package are written in SQL, set by set. Keys lead with the school,
which peewee's foreign-key fields cannot express, so references are plain columns with constraints. Defaults are the database's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
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


class JSONTextField(TextField):
    """PostgreSQL's `json`: the text is kept to the letter."""

    field_type = "json"


class Row(Model):
    """A row that belongs to a school and has an id of its own."""

    school_id = UUIDField()
    id = UUIDField()

    class Meta:
        primary_key = CompositeKey("school_id", "id")
        legacy_table_names = False


class SyncedRow(Row):
    """A row that travels to devices."""

    feed_no = BigIntegerField()
    origin_no = IntegerField(constraints=[SQL("DEFAULT 0")])
    extra = JSONField(column_name="_extra", null=True)


def _references(table: str, column: str) -> SQL:
    """The foreign key of a row's school alone, or of another row of the same school."""
    if table == "schools":
        return SQL("FOREIGN KEY (school_id) REFERENCES schools (id)")
    return SQL(f"FOREIGN KEY (school_id, {column}) REFERENCES {table} (school_id, id)")


def _index(model: Any, name: str, *columns: Any, unique: bool = False, where: Any = None) -> None:
    model.add_index(model.index(*columns, name=name, unique=unique, where=where))


def _external(model: Any, name: str) -> None:
    _index(model, name, model.school_id, model.external_id, unique=True, where=model.external_id.is_null(False))


# --- the server itself


class ServerState(Model):
    one = BooleanField(primary_key=True, constraints=[SQL("DEFAULT true CHECK (one)")])
    epoch = UUIDField(constraints=[SQL("DEFAULT gen_random_uuid()")])
    seal_key = BlobField(null=True)
    sign_key = BlobField(null=True)

    class Meta:
        table_name = "server_state"


class School(Model):
    id = UUIDField(primary_key=True)
    name = TextField(constraints=[SQL("UNIQUE")])  # unique=True would stand for an index with a name of its own
    head = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    tombstone_floor = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    created_at_ms = BigIntegerField()

    class Meta:
        table_name = "schools"
        table_settings = ("WITH (fillfactor = 50)",)


# --- people


class User(SyncedRow):
    role = TextField(constraints=[SQL("CHECK (role IN ('student', 'teacher', 'admin'))")])
    username = TextField()
    display_name = TextField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)
    password_hash = TextField(null=True)

    class Meta:
        table_name = "users"
        constraints = (_references("schools", "school_id"),)


_index(User, "idx_users_username", User.school_id, SQL("lower(username)"), unique=True)
_external(User, "idx_users_external")
_index(User, "idx_users_feed", User.school_id, User.feed_no)


class Class(SyncedRow):
    name = TextField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "classes"
        constraints = (_references("schools", "school_id"),)


_external(Class, "idx_classes_external")
_index(Class, "idx_classes_feed", Class.school_id, Class.feed_no)


class ClassMember(SyncedRow):
    class_id = UUIDField()
    user_id = UUIDField()
    role = TextField(constraints=[SQL("CHECK (role IN ('student', 'teacher'))")])

    class Meta:
        table_name = "class_members"
        constraints = (_references("classes", "class_id"), _references("users", "user_id"))


_index(ClassMember, "idx_class_members_pair", ClassMember.school_id, ClassMember.class_id, ClassMember.user_id, unique=True)
_index(ClassMember, "idx_class_members_user", ClassMember.school_id, ClassMember.user_id)
_index(ClassMember, "idx_class_members_feed", ClassMember.school_id, ClassMember.class_id, ClassMember.feed_no)


class StudentProfile(SyncedRow):
    grade = TextField(null=True)
    exam_on = TextField(null=True)
    available_minutes = JSONField(null=True)
    days_off = JSONField(null=True)
    clocks = JSONField(constraints=[SQL("DEFAULT '{}'")])

    class Meta:
        table_name = "student_profiles"
        constraints = (_references("users", "id"),)


_index(StudentProfile, "idx_student_profiles_feed", StudentProfile.school_id, StudentProfile.feed_no)


# --- content


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
        constraints = (_references("schools", "school_id"), _references("topics", "parent_id"))


_external(Topic, "idx_topics_external")
_index(Topic, "idx_topics_feed", Topic.school_id, Topic.feed_no)


class TopicPrerequisite(SyncedRow):
    topic_id = UUIDField()
    prerequisite_topic_id = UUIDField()
    reason = TextField(null=True)

    class Meta:
        table_name = "topic_prerequisites"
        constraints = (_references("topics", "topic_id"), _references("topics", "prerequisite_topic_id"))


_index(
    TopicPrerequisite,
    "idx_topic_prerequisites_pair",
    TopicPrerequisite.school_id,
    TopicPrerequisite.topic_id,
    TopicPrerequisite.prerequisite_topic_id,
    unique=True,
)
_index(TopicPrerequisite, "idx_topic_prerequisites_feed", TopicPrerequisite.school_id, TopicPrerequisite.feed_no)


class Concept(SyncedRow):
    topic_ids = JSONField()
    title = TextField()
    mastery_threshold = DoubleField()
    external_id = TextField(null=True)
    retired_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "concepts"
        constraints = (_references("schools", "school_id"),)


_external(Concept, "idx_concepts_external")
_index(Concept, "idx_concepts_feed", Concept.school_id, Concept.feed_no)


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
        constraints = (_references("topics", "topic_id"),)


_external(Question, "idx_questions_external")
_index(Question, "idx_questions_feed", Question.school_id, Question.feed_no)


# --- study


class DifficultySnapshot(SyncedRow):
    content = TextField()
    published_at_ms = BigIntegerField()

    class Meta:
        table_name = "difficulty_snapshots"
        constraints = (_references("schools", "school_id"),)


_index(DifficultySnapshot, "idx_difficulty_snapshots_feed", DifficultySnapshot.school_id, DifficultySnapshot.feed_no)


class ModelWeights(SyncedRow):
    model = TextField()
    content = TextField()
    published_at_ms = BigIntegerField()

    class Meta:
        table_name = "model_weights"
        constraints = (_references("schools", "school_id"),)


_index(ModelWeights, "idx_model_weights_feed", ModelWeights.school_id, ModelWeights.feed_no)


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


_index(
    QuestionAttempt, "idx_attempts_student_timestamp", QuestionAttempt.school_id, QuestionAttempt.student_id, QuestionAttempt.answered_at_ms
)
_index(QuestionAttempt, "idx_attempts_feed", QuestionAttempt.school_id, QuestionAttempt.student_id, QuestionAttempt.feed_no)


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
        constraints = (_references("users", "student_id"),)
        primary_key = False


_index(
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
        constraints = (_references("users", "student_id"),)
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
        constraints = (_references("users", "student_id"),)
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
        constraints = (_references("users", "student_id"),)


_index(StudyPlan, "idx_study_plans_feed", StudyPlan.school_id, StudyPlan.student_id, StudyPlan.feed_no)


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
        constraints = (_references("study_plans", "plan_id"), _references("concepts", "concept_id"))


_index(StudyPlanItem, "idx_study_plan_items_feed", StudyPlanItem.school_id, StudyPlanItem.student_id, StudyPlanItem.feed_no)
_index(StudyPlanItem, "idx_study_plan_items_plan", StudyPlanItem.school_id, StudyPlanItem.plan_id)


class PlanRule(SyncedRow):
    student_id = UUIDField()
    kind = TextField()
    concept_id = UUIDField(null=True)
    day = TextField(null=True)
    created_at_ms = BigIntegerField()
    created_by = TextField(constraints=[SQL("DEFAULT ''")])

    class Meta:
        table_name = "plan_rules"
        constraints = (_references("users", "student_id"), _references("concepts", "concept_id"))


_index(PlanRule, "idx_plan_rules_feed", PlanRule.school_id, PlanRule.student_id, PlanRule.feed_no)


# --- devices


class Device(Row):
    name = TextField()
    token_hash = BlobField(constraints=[SQL("UNIQUE")])
    token_since_ms = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    next_token_hash = BlobField(null=True, constraints=[SQL("UNIQUE")])
    app_version = TextField(constraints=[SQL("DEFAULT ''")])
    enrolled_at_ms = BigIntegerField()
    last_seen_ms = BigIntegerField(null=True)
    clock_offset_ms = BigIntegerField(null=True)
    revoked_at_ms = BigIntegerField(null=True)
    revocation = TextField(null=True, constraints=[SQL("CHECK (revocation IN ('lock', 'wipe', 'wipe_discarding_unsent'))")])
    obeyed_at_ms = BigIntegerField(null=True)
    unsent_at_wipe = IntegerField(null=True)
    first_sync_until_ms = BigIntegerField(null=True)
    seal_key = BlobField(null=True)
    verify_key = BlobField(null=True)
    pending_ops = IntegerField(null=True)
    oldest_pending_at_ms = BigIntegerField(null=True)
    schema_version = IntegerField(null=True)
    reported_at_ms = BigIntegerField(null=True)
    # The device that this one has become (cloud_api/replacement.py); of that one, since when the machine has had data of the school.
    replaced_by = UUIDField(null=True)
    replaced_at_ms = BigIntegerField(null=True)
    data_since_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "devices"
        constraints = (_references("schools", "school_id"),)
        table_settings = ("WITH (fillfactor = 70)",)


class SyncHour(Model):
    school_id = UUIDField()
    hour_ms = BigIntegerField()
    operations = BigIntegerField()
    backlog = BigIntegerField()
    counted_at_ms = BigIntegerField()

    class Meta:
        table_name = "sync_hours"
        primary_key = CompositeKey("school_id", "hour_ms")
        constraints = (_references("schools", "school_id"),)
        table_settings = ("WITH (fillfactor = 50)",)


class FeedDay(Model):
    school_id = UUIDField()
    day_ms = BigIntegerField()
    noted_at_ms = BigIntegerField()
    head = BigIntegerField()

    class Meta:
        table_name = "feed_days"
        primary_key = CompositeKey("school_id", "day_ms")
        constraints = (_references("schools", "school_id"),)


class AnswersLetGo(Model):
    school_id = UUIDField(primary_key=True, constraints=[SQL("REFERENCES schools (id)")])
    through_no = BigIntegerField()
    wanted_no = BigIntegerField()
    before_ms = BigIntegerField()
    feed_no = BigIntegerField()
    written = BooleanField(constraints=[SQL("DEFAULT false")])

    class Meta:
        table_name = "answers_let_go"


class DeviceIncarnation(Model):
    school_id = UUIDField()
    no = IntegerField(constraints=[SQL("GENERATED ALWAYS AS IDENTITY")])
    device_id = UUIDField()
    incarnation = UUIDField()
    last_seq = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    chain = BlobField()
    durable_seq = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    started_at_ms = BigIntegerField()

    class Meta:
        table_name = "device_incarnations"
        primary_key = CompositeKey("school_id", "no")
        constraints = (_references("devices", "device_id"), SQL("UNIQUE (school_id, device_id, incarnation)"))
        table_settings = ("WITH (fillfactor = 70)",)


class DeviceGrant(Row):
    device_id = UUIDField()
    kind = TextField(constraints=[SQL("CHECK (kind IN ('class', 'student'))")])
    subject_id = UUIDField()
    granted_at_ms = BigIntegerField()
    ended_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "device_grants"
        constraints = (_references("devices", "device_id"),)


_index(
    DeviceGrant,
    "idx_device_grants_open",
    DeviceGrant.school_id,
    DeviceGrant.device_id,
    DeviceGrant.kind,
    DeviceGrant.subject_id,
    unique=True,
    where=DeviceGrant.ended_at_ms.is_null(),
)


class MembershipHistory(Model):
    school_id = UUIDField()
    class_id = UUIDField()
    user_id = UUIDField()
    ended_at_ms = BigIntegerField()

    class Meta:
        table_name = "membership_history"
        primary_key = False


_index(MembershipHistory, "idx_membership_history", MembershipHistory.school_id, MembershipHistory.class_id, MembershipHistory.user_id)


class EnrolmentCode(Row):
    code_hash = BlobField(constraints=[SQL("UNIQUE")])
    grants = JSONField()
    uses_left = IntegerField(constraints=[SQL("CHECK (uses_left >= 0)")])
    expires_at_ms = BigIntegerField()
    created_at_ms = BigIntegerField()
    hint = TextField(constraints=[SQL("DEFAULT ''")])
    created_by = TextField(constraints=[SQL("DEFAULT ''")])

    class Meta:
        table_name = "enrolment_codes"
        constraints = (_references("schools", "school_id"),)


# --- access


class UserSession(Model):
    school_id = UUIDField()
    token_hash = BlobField(constraints=[SQL("UNIQUE")])
    user_id = UUIDField()
    started_at_ms = BigIntegerField()
    used_at_ms = BigIntegerField()

    class Meta:
        table_name = "user_sessions"
        primary_key = CompositeKey("school_id", "token_hash")
        constraints = (_references("users", "user_id"),)


_index(UserSession, "idx_user_sessions_user", UserSession.school_id, UserSession.user_id)


class WrongTries(Model):
    key = BlobField(primary_key=True)
    failures = IntegerField()
    failed_at_ms = BigIntegerField()

    class Meta:
        table_name = "wrong_tries"
        table_settings = ("WITH (fillfactor = 70)",)


_index(WrongTries, "idx_wrong_tries_time", WrongTries.failed_at_ms)


# --- sync


class Tombstone(Model):
    school_id = UUIDField()
    scope = TextField()
    # Not `table_name`: peewee's models have a Meta of that word.
    table = TextField(column_name="table_name")
    row_id = UUIDField()
    feed_no = BigIntegerField()
    deleted_at_ms = BigIntegerField()

    class Meta:
        table_name = "tombstones"
        constraints = (_references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "scope", "table", "row_id")


_index(Tombstone, "idx_tombstones_feed", Tombstone.school_id, Tombstone.scope, Tombstone.feed_no)
_index(Tombstone, "idx_tombstones_row", Tombstone.school_id, Tombstone.table, Tombstone.row_id)


class DeadLetter(Row):
    device_id = UUIDField()
    incarnation = UUIDField()
    seq = BigIntegerField()
    table = TextField(column_name="table_name")
    row_id = UUIDField()
    kind = TextField()
    schema_version = IntegerField()
    hlc = BigIntegerField()
    wall_ms = BigIntegerField()
    clock_delta_ms = BigIntegerField(constraints=[SQL("DEFAULT 0")])
    clock_doubtful = BooleanField(constraints=[SQL("DEFAULT false")])
    payload = JSONTextField()
    base = JSONTextField(null=True)
    code = TextField()
    message = TextField()
    received_at_ms = BigIntegerField()

    class Meta:
        table_name = "dead_letters"
        constraints = (_references("schools", "school_id"),)


_index(DeadLetter, "idx_dead_letters_row", DeadLetter.school_id, DeadLetter.row_id)
_index(DeadLetter, "idx_dead_letters_device", DeadLetter.school_id, DeadLetter.device_id)


class SyncConflict(SyncedRow):
    student_id = UUIDField()
    table = TextField(column_name="table_name")
    row_id = UUIDField()
    field = TextField()
    base_value = JSONField(null=True)
    base_clock = JSONField(null=True)
    kept_value = JSONField(null=True)
    kept_clock = JSONField(null=True)
    lost_value = JSONField(null=True)
    lost_clock = JSONField()
    lost_raw_hlc = BigIntegerField()
    device_id = UUIDField()
    rule = TextField()
    created_at_ms = BigIntegerField()
    restored_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "sync_conflicts"
        constraints = (_references("schools", "school_id"),)


_index(SyncConflict, "idx_sync_conflicts_row", SyncConflict.school_id, SyncConflict.table, SyncConflict.row_id)
_index(SyncConflict, "idx_sync_conflicts_feed", SyncConflict.school_id, SyncConflict.student_id, SyncConflict.feed_no)


class SettledValue(Model):
    school_id = UUIDField()
    key = UUIDField()
    settled_at_ms = BigIntegerField()

    class Meta:
        table_name = "settled_values"
        constraints = (_references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "key")


_index(SettledValue, "idx_settled_values_time", SettledValue.school_id, SettledValue.settled_at_ms)


class Erasure(Model):
    school_id = UUIDField()
    student_id = UUIDField()
    erased_at_ms = BigIntegerField()
    feed_no = BigIntegerField()

    class Meta:
        table_name = "erasures"
        constraints = (_references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "student_id")


_index(Erasure, "idx_erasures_feed", Erasure.school_id, Erasure.feed_no)


class ErasedRow(Model):
    school_id = UUIDField()
    row_id = UUIDField()
    student_id = UUIDField()

    class Meta:
        table_name = "erased_rows"
        constraints = (SQL("FOREIGN KEY (school_id, student_id) REFERENCES erasures (school_id, student_id)"),)
        primary_key = CompositeKey("school_id", "row_id")


class ErasureConfirmation(Model):
    school_id = UUIDField()
    device_id = UUIDField()
    feed_no = BigIntegerField()
    confirmed_at_ms = BigIntegerField()

    class Meta:
        table_name = "erasure_confirmations"
        constraints = (_references("devices", "device_id"),)
        primary_key = CompositeKey("school_id", "device_id")


class AuditLog(Row):
    at_ms = BigIntegerField()
    actor = TextField()
    action = TextField()
    subject = TextField(null=True)
    detail = JSONField(null=True)

    class Meta:
        table_name = "audit_log"
        constraints = (_references("schools", "school_id"),)


_index(AuditLog, "idx_audit_log_time", AuditLog.school_id, AuditLog.at_ms)


# Every model, parents first.
MODELS: tuple[type[Model], ...] = (
    ServerState,
    School,
    User,
    Class,
    ClassMember,
    StudentProfile,
    Topic,
    TopicPrerequisite,
    Concept,
    Question,
    DifficultySnapshot,
    ModelWeights,
    QuestionAttempt,
    ConceptMastery,
    MasteryFold,
    StudentFigures,
    StudyPlan,
    StudyPlanItem,
    PlanRule,
    Device,
    SyncHour,
    FeedDay,
    AnswersLetGo,
    DeviceIncarnation,
    DeviceGrant,
    MembershipHistory,
    EnrolmentCode,
    UserSession,
    WrongTries,
    Tombstone,
    DeadLetter,
    SyncConflict,
    SettledValue,
    Erasure,
    ErasedRow,
    AuditLog,
    ErasureConfirmation,
)

# What a model cannot say: run when all tables are there. Migrations say it with the same words.
AFTER_TABLES = (
    "INSERT INTO server_state DEFAULT VALUES",
    """
CREATE FUNCTION check_attempt_references() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $check$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT DISTINCT school_id, question_id FROM written) AS w
         WHERE NOT EXISTS (SELECT FROM questions q WHERE q.school_id = w.school_id AND q.id = w.question_id)
    ) OR EXISTS (
        SELECT FROM (SELECT DISTINCT school_id, student_id FROM written) AS w
         WHERE NOT EXISTS (SELECT FROM users u WHERE u.school_id = w.school_id AND u.id = w.student_id)
    ) THEN
        RAISE foreign_key_violation USING MESSAGE = 'an attempt refers to a question or student that does not exist';
    END IF;
    RETURN NULL;
END
$check$
""",
    """
CREATE TRIGGER attempts_refer_to_rows AFTER INSERT ON question_attempts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION check_attempt_references()
""",
    *((Path(__file__).parent / name).read_text("utf-8").replace("%", "%%") for name in ("audit.sql", "wall.sql", "gates.sql")),
)
