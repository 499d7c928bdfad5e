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

ACCEPTED = {"blocks-table": "TRUNCATE is named by a trigger that forbids it; there is nothing yet that could be blocked"}

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
    days_off jsonb,
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
    estimated_minutes integer,
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

CREATE TABLE difficulty_snapshots (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    content text NOT NULL,
    published_at_ms bigint NOT NULL,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_difficulty_snapshots_feed ON difficulty_snapshots (school_id, feed_no);

CREATE TABLE model_weights (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    model text NOT NULL,
    content text NOT NULL,
    published_at_ms bigint NOT NULL,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    PRIMARY KEY (school_id, id)
);
CREATE INDEX idx_model_weights_feed ON model_weights (school_id, feed_no);
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

-- What class figures are made from, kept up behind the feed: the student's attempts up to `feed_no` are counted in.
CREATE TABLE student_figures (
    school_id uuid NOT NULL,
    student_id uuid NOT NULL,
    feed_no bigint NOT NULL,
    questions_no bigint NOT NULL,
    engine text NOT NULL,
    answers bigint NOT NULL,
    mastery json NOT NULL,
    days json NOT NULL,
    questions json NOT NULL,
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
    notes jsonb,
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

CREATE TABLE plan_rules (
    school_id uuid NOT NULL,
    id uuid NOT NULL,
    student_id uuid NOT NULL,
    kind text NOT NULL,
    concept_id uuid,
    day text,
    created_at_ms bigint NOT NULL,
    feed_no bigint NOT NULL,
    origin_no integer NOT NULL DEFAULT 0,
    _extra jsonb,
    created_by text NOT NULL DEFAULT '',
    class_id uuid,
    PRIMARY KEY (school_id, id),
    FOREIGN KEY (school_id, student_id) REFERENCES users (school_id, id),
    FOREIGN KEY (school_id, concept_id) REFERENCES concepts (school_id, id),
    FOREIGN KEY (school_id, class_id) REFERENCES classes (school_id, id)
);
CREATE INDEX idx_plan_rules_feed ON plan_rules (school_id, student_id, feed_no);
CREATE INDEX idx_plan_rules_class ON plan_rules (school_id, class_id) WHERE class_id IS NOT NULL;
"""

_DEVICES = """
CREATE TABLE devices (
    school_id uuid NOT NULL REFERENCES schools (id),
    id uuid NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    token_since_ms bigint NOT NULL DEFAULT 0,
    next_token_hash bytea UNIQUE,
    app_version text NOT NULL DEFAULT '',
    enrolled_at_ms bigint NOT NULL,
    last_seen_ms bigint,
    clock_offset_ms bigint,
    revoked_at_ms bigint,
    revocation text CHECK (revocation IN ('lock', 'wipe', 'wipe_discarding_unsent')),
    obeyed_at_ms bigint,
    unsent_at_wipe integer,
    first_sync_until_ms bigint,
    seal_key bytea,
    verify_key bytea,
    pending_ops integer,
    oldest_pending_at_ms bigint,
    schema_version integer,
    reported_at_ms bigint,
    replaced_by uuid,
    replaced_at_ms bigint,
    data_since_ms bigint,
    PRIMARY KEY (school_id, id)
) WITH (fillfactor = 70);

-- What came from a school's devices in each hour, and what they last said still waits on them.
CREATE TABLE sync_hours (
    school_id uuid NOT NULL REFERENCES schools (id),
    hour_ms bigint NOT NULL,
    operations bigint NOT NULL,
    backlog bigint NOT NULL,
    counted_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, hour_ms)
) WITH (fillfactor = 50);

-- Every feed number up to `head` had been given by `noted_at_ms`; noted about once a day.
CREATE TABLE feed_days (
    school_id uuid NOT NULL REFERENCES schools (id),
    day_ms bigint NOT NULL,
    noted_at_ms bigint NOT NULL,
    head bigint NOT NULL,
    PRIMARY KEY (school_id, day_ms)
);

-- How far a school has let go of what was answered: of attempts up to `through_no`, on the way to `wanted_no`, and of what came before `before_ms`.
-- `feed_no` is the number by which devices hear of it; `written`: the tables were written anew since, so that no byte is left.
CREATE TABLE answers_let_go (
    school_id uuid PRIMARY KEY REFERENCES schools (id),
    through_no bigint NOT NULL,
    wanted_no bigint NOT NULL,
    before_ms bigint NOT NULL,
    feed_no bigint NOT NULL,
    written boolean NOT NULL DEFAULT false
);

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
    hint text NOT NULL DEFAULT '',
    created_by text NOT NULL DEFAULT '',
    PRIMARY KEY (school_id, id)
);
"""

_ACCESS = """
-- Who is signed in to pages or to the API; the token itself is known to its holder alone.
CREATE TABLE user_sessions (
    school_id uuid NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    user_id uuid NOT NULL,
    started_at_ms bigint NOT NULL,
    used_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, token_hash),
    FOREIGN KEY (school_id, user_id) REFERENCES users (school_id, id)
);
CREATE INDEX idx_user_sessions_user ON user_sessions (school_id, user_id);

-- Tries at passwords and codes that were wrong, by a hash of whose or from where: of no school, since it may be that of none.
CREATE TABLE wrong_tries (
    key bytea PRIMARY KEY,
    failures integer NOT NULL,
    failed_at_ms bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX idx_wrong_tries_time ON wrong_tries (failed_at_ms);
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

-- Students whose data were erased: what comes late for one of them is dropped. Ids and nothing else. `feed_no` is the order that goes down to
-- every device.
CREATE TABLE erasures (
    school_id uuid NOT NULL REFERENCES schools (id),
    student_id uuid NOT NULL,
    erased_at_ms bigint NOT NULL,
    feed_no bigint NOT NULL,
    written boolean NOT NULL DEFAULT false,
    PRIMARY KEY (school_id, student_id)
);
CREATE INDEX idx_erasures_feed ON erasures (school_id, feed_no);

-- Rows of theirs of which a device may still send changes that do not name the student.
CREATE TABLE erased_rows (
    school_id uuid NOT NULL,
    row_id uuid NOT NULL,
    student_id uuid NOT NULL,
    PRIMARY KEY (school_id, row_id),
    FOREIGN KEY (school_id, student_id) REFERENCES erasures (school_id, student_id)
);

-- Up to which order a device has said that it has carried out all of them.
CREATE TABLE erasure_confirmations (
    school_id uuid NOT NULL,
    device_id uuid NOT NULL,
    feed_no bigint NOT NULL,
    confirmed_at_ms bigint NOT NULL,
    PRIMARY KEY (school_id, device_id),
    FOREIGN KEY (school_id, device_id) REFERENCES devices (school_id, id)
);

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
CREATE INDEX idx_audit_log_passwords ON audit_log (school_id, subject, at_ms) WHERE action = 'user.password_set';
"""

_AUDIT = """
-- Nobody changes what was written down; entries go only when their time is over, by a transaction that says so.
CREATE FUNCTION keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS $keep$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('carrel.audit_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE insufficient_privilege USING MESSAGE = 'the audit log is only ever added to';
END
$keep$;
CREATE TRIGGER audit_log_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION keep_audit_log();
"""

_WALL = """
-- The wall between schools (docs/security.md): a row is there for a transaction that says which school it is about, and is that of the row;
-- or that it is about every school, as administrators' commands and migrations do. It holds for the owner of the tables as well.
DO $wall$
DECLARE
    walled record;
BEGIN
    FOR walled IN
        SELECT c.oid::regclass AS name, a.attname AS key
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = current_schema()::regnamespace AND NOT a.attisdropped
           AND (a.attname = 'school_id' OR c.relname = 'schools' AND a.attname = 'id')
    LOOP
        EXECUTE format('ALTER TABLE %%s ENABLE ROW LEVEL SECURITY', walled.name);
        EXECUTE format('ALTER TABLE %%s FORCE ROW LEVEL SECURITY', walled.name);
        EXECUTE format(
            'CREATE POLICY own_school ON %%s USING (%%I = (SELECT nullif(current_setting(''carrel.school_id'', true), '''')::uuid)'
            ' OR (SELECT current_setting(''carrel.every_school'', true) = ''on''))',
            walled.name, walled.key
        );
    END LOOP;
END
$wall$;
"""

_GATES = """
-- The gates in that wall: what may be asked before it is known which school a request is about. Each answers about the one row that the caller
-- has the secret of, and makes the transaction one about that row's school; the two counts are all that is told of other schools.
CREATE FUNCTION device_by_token(wanted bytea, locked boolean) RETURNS SETOF devices LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    device devices;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    IF locked THEN
        SELECT * INTO device FROM devices WHERE token_hash = wanted OR next_token_hash = wanted FOR UPDATE;
    ELSE
        SELECT * INTO device FROM devices WHERE token_hash = wanted OR next_token_hash = wanted;
    END IF;
    PERFORM set_config('carrel.every_school', before, true);
    IF device.id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', device.school_id::text, true);
        RETURN NEXT device;
    END IF;
END
$gate$;
CREATE FUNCTION session_by_token(wanted bytea) RETURNS SETOF user_sessions LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    user_session user_sessions;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT * INTO user_session FROM user_sessions WHERE token_hash = wanted;
    PERFORM set_config('carrel.every_school', before, true);
    IF user_session.school_id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', user_session.school_id::text, true);
        RETURN NEXT user_session;
    END IF;
END
$gate$;
CREATE FUNCTION redeem_code(wanted bytea, now_ms bigint) RETURNS SETOF enrolment_codes LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    code enrolment_codes;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    UPDATE enrolment_codes SET uses_left = uses_left - 1
     WHERE code_hash = wanted AND uses_left > 0 AND expires_at_ms > now_ms RETURNING * INTO code;
    PERFORM set_config('carrel.every_school', before, true);
    IF code.id IS NOT NULL THEN
        PERFORM set_config('carrel.school_id', code.school_id::text, true);
        RETURN NEXT code;
    END IF;
END
$gate$;
CREATE FUNCTION school_meant(wanted text) RETURNS uuid LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
    school uuid;
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT id INTO school FROM schools
     WHERE wanted IN (name, id::text, replace(id::text, '-', '')) OR wanted IS NULL AND (SELECT count(*) FROM schools) = 1 LIMIT 1;
    PERFORM set_config('carrel.every_school', before, true);
    RETURN school;
END
$gate$;
CREATE FUNCTION devices_at_work(seen_after_ms bigint, now_ms bigint, OUT seen bigint, OUT first_syncs bigint) LANGUAGE plpgsql AS $gate$
DECLARE
    before text := current_setting('carrel.every_school', true);
BEGIN
    PERFORM set_config('carrel.every_school', 'on', true);
    SELECT count(*) FILTER (WHERE last_seen_ms > seen_after_ms), count(*) FILTER (WHERE first_sync_until_ms > now_ms)
      INTO seen, first_syncs FROM devices;
    PERFORM set_config('carrel.every_school', before, true);
END
$gate$;
"""

_GATES_FIRST = (
    "device_by_token(bytea, boolean)",
    "session_by_token(bytea)",
    "redeem_code(bytea, bigint)",
    "school_meant(text)",
    "devices_at_work(bigint, bigint)",
)

_TABLES_CHILDREN_FIRST = (
    "wrong_tries, user_sessions, erasure_confirmations, erased_rows, erasures, audit_log, settled_values, sync_conflicts, dead_letters, tombstones, enrolment_codes, membership_history, device_grants, device_incarnations, answers_let_go, feed_days, sync_hours, devices, "
    "plan_rules, study_plan_items, study_plans, student_figures, mastery_folds, concept_mastery, question_attempts, model_weights, difficulty_snapshots, questions, concepts, topic_prerequisites, topics, "
    "student_profiles, class_members, classes, users, schools, server_state"
)


def migrate(migrator: Any, database: Any, *, fake: bool = False) -> None:
    for part in (_SERVER, _PEOPLE, _CONTENT, _STUDY, _DEVICES, _ACCESS, _SYNC, _AUDIT, _WALL, _GATES):
        migrator.sql(part)


def rollback(migrator: Any, database: Any, *, fake: bool = False) -> None:
    migrator.sql(f"DROP FUNCTION {', '.join(_GATES_FIRST)}")
    migrator.sql(f"DROP TABLE {_TABLES_CHILDREN_FIRST}")
    migrator.sql("DROP FUNCTION check_attempt_references, keep_audit_log")
