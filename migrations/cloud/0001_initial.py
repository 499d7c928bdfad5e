"""The first schema of a school's server.

The school leads every key, so that a district can be distributed by school; foreign keys stay inside one school. Ids are UUIDv7 and
therefore ordered by time: question_attempts can be partitioned by ranges of `id` without changing its primary key.

Columns that every synced table has besides those of the registry:
    feed_no    position of the row's latest version in its school's history
    origin_no  the device incarnation that wrote that version, 0 for the server itself
    _extra     fields of a newer peer that this schema has no column for yet
"""

from __future__ import annotations

from typing import Any

_SERVER = """
CREATE TABLE server_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    seal_key bytea,
    sign_key bytea
);
INSERT INTO server_state DEFAULT VALUES;

CREATE TABLE schools (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    head bigint NOT NULL DEFAULT 0,
    tombstone_floor bigint NOT NULL DEFAULT 0,
    created_at_ms bigint NOT NULL
) WITH (fillfactor = 50);
"""

_PEOPLE = """
CREATE TABLE users (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('student', 'teacher', 'admin')),
    username text NOT NULL,
    display_name text NOT NULL,
    external_id text,
    retired_at_ms bigint,
    password_hash text,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE UNIQUE INDEX idx_users_username ON users (school_id, lower(username));
CREATE UNIQUE INDEX idx_users_external ON users (school_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX idx_users_feed ON users (school_id, feed_no);

CREATE TABLE classes (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    name text NOT NULL,
    external_id text,
    retired_at_ms bigint,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE UNIQUE INDEX idx_classes_external ON classes (school_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX idx_classes_feed ON classes (school_id, feed_no);

CREATE TABLE class_members (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    class_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('student', 'teacher')),
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, class_id) REFERENCES classes (school_id, id),
    FOREIGN KEY (school_id, user_id) REFERENCES users (school_id, id)
);
CREATE UNIQUE INDEX idx_class_members_pair ON class_members (school_id, class_id, user_id);
CREATE INDEX idx_class_members_user ON class_members (school_id, user_id);
CREATE INDEX idx_class_members_feed ON class_members (school_id, class_id, feed_no);

CREATE TABLE student_profiles (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    grade text,
    exam_on text,
    available_minutes jsonb,
    clocks jsonb NOT NULL DEFAULT '{}',
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, id) REFERENCES users (school_id, id)
);
CREATE INDEX idx_student_profiles_feed ON student_profiles (school_id, feed_no);
"""

_CONTENT = """
CREATE TABLE topics (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    parent_id uuid,
    title text NOT NULL,
    level text NOT NULL,
    position integer NOT NULL,
    weightage double precision,
    external_id text,
    retired_at_ms bigint,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, parent_id) REFERENCES topics (school_id, id)
);
CREATE UNIQUE INDEX idx_topics_external ON topics (school_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX idx_topics_feed ON topics (school_id, feed_no);

CREATE TABLE topic_prerequisites (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    topic_id uuid NOT NULL,
    prerequisite_topic_id uuid NOT NULL,
    reason text,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, topic_id) REFERENCES topics (school_id, id),
    FOREIGN KEY (school_id, prerequisite_topic_id) REFERENCES topics (school_id, id)
);
CREATE UNIQUE INDEX idx_topic_prerequisites_pair ON topic_prerequisites (school_id, topic_id, prerequisite_topic_id);
CREATE INDEX idx_topic_prerequisites_feed ON topic_prerequisites (school_id, feed_no);

CREATE TABLE concepts (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    topic_ids jsonb NOT NULL,
    title text NOT NULL,
    mastery_threshold double precision NOT NULL,
    external_id text,
    retired_at_ms bigint,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE UNIQUE INDEX idx_concepts_external ON concepts (school_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX idx_concepts_feed ON concepts (school_id, feed_no);

CREATE TABLE questions (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    topic_id uuid NOT NULL,
    concept_ids jsonb NOT NULL,
    kind text NOT NULL,
    stem text NOT NULL,
    choices jsonb,
    answers jsonb NOT NULL,
    source text,
    external_id text,
    retired_at_ms bigint,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, topic_id) REFERENCES topics (school_id, id)
);
CREATE UNIQUE INDEX idx_questions_external ON questions (school_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX idx_questions_feed ON questions (school_id, feed_no);
"""

_STUDY = """
CREATE TABLE question_attempts (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    student_id uuid NOT NULL,
    question_id uuid NOT NULL,
    answer text,
    correct boolean NOT NULL,
    answered_at_ms bigint NOT NULL,
    active_ms integer CHECK (active_ms >= 0),
    confidence smallint CHECK (confidence BETWEEN 1 AND 4),
    purpose text NOT NULL CHECK (purpose IN ('plan', 'review', 'quiz', 'free')),
    device_id uuid NOT NULL,
    corrected_at_ms bigint,
    time_doubtful boolean,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_attempts_student_timestamp ON question_attempts (school_id, student_id, answered_at_ms);
CREATE INDEX idx_attempts_feed ON question_attempts (school_id, student_id, feed_no);

-- Foreign keys of question_attempts, checked once a statement: row by row they took 34 of the 39 microseconds that loading a row costs
-- (docs/decisions/0006). What an attempt refers to is retired, never deleted, so the other direction needs no check.
-- Without nested loops: on tables that were never analysed the planner else compares every attempt with every question.
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
$check$;
CREATE TRIGGER attempts_refer_to_rows AFTER INSERT ON question_attempts
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION check_attempt_references();

CREATE TABLE concept_mastery (
    school_id uuid NOT NULL,
    student_id uuid NOT NULL,
    concept_id uuid NOT NULL,
    score double precision NOT NULL,
    evidence double precision NOT NULL,
    attempts integer NOT NULL,
    correct_attempts integer NOT NULL,
    last_attempt_at_ms bigint NOT NULL,
    level text NOT NULL,
    model_version text NOT NULL,
    computed_at_ms bigint NOT NULL,
    FOREIGN KEY (school_id, student_id) REFERENCES users (school_id, id)
);
CREATE UNIQUE INDEX idx_mastery_student_concept ON concept_mastery (school_id, student_id, concept_id);

-- Up to which feed number a student's attempts are folded into concept_mastery.
CREATE TABLE mastery_folds (
    school_id uuid NOT NULL,
    student_id uuid NOT NULL,
    feed_no bigint NOT NULL,
    model_version text NOT NULL,
    PRIMARY KEY (school_id, student_id),
    FOREIGN KEY (school_id, student_id) REFERENCES users (school_id, id)
);

CREATE TABLE study_plans (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    student_id uuid NOT NULL,
    created_at_ms bigint NOT NULL,
    starts_on text NOT NULL,
    days integer NOT NULL,
    planner_version text NOT NULL,
    forecast jsonb,
    device_id uuid NOT NULL,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, student_id) REFERENCES users (school_id, id)
);
CREATE INDEX idx_study_plans_feed ON study_plans (school_id, student_id, feed_no);

CREATE TABLE study_plan_items (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    plan_id uuid NOT NULL,
    student_id uuid NOT NULL,
    concept_id uuid NOT NULL,
    day text NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL,
    minutes integer NOT NULL,
    reason text NOT NULL,
    status text NOT NULL,
    moved_to text,
    clocks jsonb NOT NULL DEFAULT '{}',
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, plan_id) REFERENCES study_plans (school_id, id),
    FOREIGN KEY (school_id, concept_id) REFERENCES concepts (school_id, id)
);
CREATE INDEX idx_study_plan_items_feed ON study_plan_items (school_id, student_id, feed_no);
CREATE INDEX idx_study_plan_items_plan ON study_plan_items (school_id, plan_id);
"""

_DEVICES = """
CREATE TABLE devices (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    app_version text NOT NULL DEFAULT '',
    enrolled_at_ms bigint NOT NULL,
    last_seen_ms bigint,
    clock_offset_ms bigint,
    revoked_at_ms bigint,
    first_sync_until_ms bigint,
    seal_key bytea,
    verify_key bytea,
    PRIMARY KEY (school_id, id)
) WITH (fillfactor = 70);

-- One row for each unbroken life of a device's operation log; `no` is the origin_no of the rows that it wrote.
CREATE TABLE device_incarnations (
    school_id uuid NOT NULL,
    no integer NOT NULL GENERATED ALWAYS AS IDENTITY,
    device_id uuid NOT NULL,
    incarnation uuid NOT NULL,
    last_seq bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL,
    durable_seq bigint NOT NULL DEFAULT 0,
    started_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, no),
    UNIQUE (school_id, device_id, incarnation),
    FOREIGN KEY (school_id, device_id) REFERENCES devices (school_id, id)
) WITH (fillfactor = 70);

-- What a device may hold. A grant of a class reaches the students who are members of it. Ended grants stay: an operation is judged by
-- what the device was allowed when it was written.
CREATE TABLE device_grants (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('class', 'student')),
    subject_id uuid NOT NULL,
    granted_at_ms bigint NOT NULL,
    ended_at_ms bigint,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, device_id) REFERENCES devices (school_id, id)
);
CREATE UNIQUE INDEX idx_device_grants_open ON device_grants (school_id, device_id, kind, subject_id) WHERE ended_at_ms IS NULL;

-- Who was a member of which class, and until when: a device of the class is judged by it.
CREATE TABLE membership_history (
    school_id uuid NOT NULL,
    class_id uuid NOT NULL,
    user_id uuid NOT NULL,
    ended_at_ms bigint NOT NULL
);
CREATE INDEX idx_membership_history ON membership_history (school_id, class_id, user_id);

CREATE TABLE enrolment_codes (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    code_hash bytea NOT NULL UNIQUE,
    grants jsonb NOT NULL,
    uses_left integer NOT NULL CHECK (uses_left >= 0),
    expires_at_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, id)
);
"""

_SYNC = """
CREATE TABLE tombstones (
    school_id uuid NOT NULL REFERENCES schools (id),
    scope text NOT NULL,
    table_name text NOT NULL,
    row_id uuid NOT NULL,
    feed_no bigint NOT NULL,
    deleted_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, scope, table_name, row_id)
);
CREATE INDEX idx_tombstones_feed ON tombstones (school_id, scope, feed_no);
CREATE INDEX idx_tombstones_row ON tombstones (school_id, table_name, row_id);

-- `payload` and `base` are json, not jsonb: a dead letter is kept to the letter, even one that jsonb cannot hold. The clock's error is what the
-- time of an attempt is corrected by.
CREATE TABLE dead_letters (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    device_id uuid NOT NULL,
    incarnation uuid NOT NULL,
    seq bigint NOT NULL,
    table_name text NOT NULL,
    row_id uuid NOT NULL,
    kind text NOT NULL,
    schema_version integer NOT NULL,
    hlc bigint NOT NULL,
    wall_ms bigint NOT NULL,
    clock_delta_ms bigint NOT NULL DEFAULT 0,
    clock_doubtful boolean NOT NULL DEFAULT false,
    payload json NOT NULL,
    base json,
    code text NOT NULL,
    message text NOT NULL,
    received_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_dead_letters_row ON dead_letters (school_id, row_id);
CREATE INDEX idx_dead_letters_device ON dead_letters (school_id, device_id);

-- Values that lost a merge. They travel down with the student's scope.
CREATE TABLE sync_conflicts (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    student_id uuid NOT NULL,
    table_name text NOT NULL,
    row_id uuid NOT NULL,
    field text NOT NULL,
    base_value jsonb,
    base_clock jsonb,
    kept_value jsonb,
    kept_clock jsonb,
    lost_value jsonb,
    lost_clock jsonb NOT NULL,
    lost_raw_hlc bigint NOT NULL,
    device_id uuid NOT NULL,
    rule text NOT NULL,
    created_at_ms bigint NOT NULL,
    restored_at_ms bigint,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_sync_conflicts_row ON sync_conflicts (school_id, table_name, row_id);
CREATE INDEX idx_sync_conflicts_feed ON sync_conflicts (school_id, student_id, feed_no);

-- The field values that merges have dealt with, by a hash of where, when, by whom and what: one that is sent again is not merged again.
CREATE TABLE settled_values (
    school_id uuid NOT NULL REFERENCES schools (id),
    key uuid NOT NULL,
    settled_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, key)
);
CREATE INDEX idx_settled_values_time ON settled_values (school_id, settled_at_ms);

CREATE TABLE audit_log (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text,
    detail jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_audit_log_time ON audit_log (school_id, at_ms);
"""

_TABLES_CHILDREN_FIRST = (
    "audit_log, settled_values, sync_conflicts, dead_letters, tombstones, enrolment_codes, membership_history, device_grants, device_incarnations, devices, "
    "study_plan_items, study_plans, mastery_folds, concept_mastery, question_attempts, questions, concepts, topic_prerequisites, topics, "
    "student_profiles, class_members, classes, users, schools, server_state"
)


def migrate(migrator: Any, database: Any, *, fake: bool = False) -> None:
    for part in (_SERVER, _PEOPLE, _CONTENT, _STUDY, _DEVICES, _SYNC):
        migrator.sql(part)


def rollback(migrator: Any, database: Any, *, fake: bool = False) -> None:
    migrator.sql(f"DROP TABLE {_TABLES_CHILDREN_FIRST}")
    migrator.sql("DROP FUNCTION check_attempt_references")
