"""The first schema of a device.

Replicas of synced rows carry no foreign keys: rows arrive scope by scope, the student's own first, so that an attempt may be here before the
question it answers (docs/decisions/0004). The server holds those rules. All tables are STRICT.

Columns that every synced table has besides those of the registry:
    feed_no  the server's number of the row's latest version here, 0 while the server has not named one
    _extra   fields of a newer peer that this schema has no column for yet
"""

from __future__ import annotations

from typing import Any

_CONTENT = (
    """CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL,
    username TEXT NOT NULL,
    display_name TEXT NOT NULL,
    external_id TEXT,
    retired_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_users_username ON users (username)",
    """CREATE TABLE classes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    external_id TEXT,
    retired_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE class_members (
    id TEXT NOT NULL PRIMARY KEY,
    class_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_class_members_class ON class_members (class_id)",
    "CREATE INDEX idx_class_members_user ON class_members (user_id)",
    """CREATE TABLE topics (
    id TEXT NOT NULL PRIMARY KEY,
    parent_id TEXT,
    title TEXT NOT NULL,
    level TEXT NOT NULL,
    position INTEGER NOT NULL,
    weightage REAL,
    estimated_minutes INTEGER,
    external_id TEXT,
    retired_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE topic_prerequisites (
    id TEXT NOT NULL PRIMARY KEY,
    topic_id TEXT NOT NULL,
    prerequisite_topic_id TEXT NOT NULL,
    reason TEXT,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE concepts (
    id TEXT NOT NULL PRIMARY KEY,
    topic_ids TEXT NOT NULL,
    title TEXT NOT NULL,
    mastery_threshold REAL NOT NULL,
    external_id TEXT,
    retired_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE questions (
    id TEXT NOT NULL PRIMARY KEY,
    topic_id TEXT NOT NULL,
    concept_ids TEXT NOT NULL,
    kind TEXT NOT NULL,
    stem TEXT NOT NULL,
    choices TEXT,
    answers TEXT NOT NULL,
    source TEXT,
    external_id TEXT,
    retired_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_questions_topic ON questions (topic_id)",
    """CREATE TABLE difficulty_snapshots (
    id TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL,
    published_at_ms INTEGER NOT NULL,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE model_weights (
    id TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    content TEXT NOT NULL,
    published_at_ms INTEGER NOT NULL,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
)

_STUDY = (
    """CREATE TABLE student_profiles (
    id TEXT NOT NULL PRIMARY KEY,
    grade TEXT,
    exam_on TEXT,
    available_minutes TEXT,
    days_off TEXT,
    clocks TEXT NOT NULL DEFAULT '{}',
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    """CREATE TABLE question_attempts (
    id TEXT NOT NULL PRIMARY KEY,
    student_id TEXT NOT NULL,
    question_id TEXT NOT NULL,
    answer TEXT,
    correct INTEGER NOT NULL CHECK (correct IN (0, 1)),
    answered_at_ms INTEGER NOT NULL,
    active_ms INTEGER,
    confidence INTEGER,
    purpose TEXT NOT NULL,
    device_id TEXT NOT NULL,
    corrected_at_ms INTEGER,
    time_doubtful INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT, WITHOUT ROWID""",
    "CREATE INDEX idx_attempts_student_timestamp ON question_attempts (student_id, answered_at_ms)",
    """CREATE TABLE concept_mastery (
    student_id TEXT NOT NULL,
    concept_id TEXT NOT NULL,
    score REAL NOT NULL,
    evidence REAL NOT NULL,
    attempts INTEGER NOT NULL,
    correct_attempts INTEGER NOT NULL,
    last_attempt_at_ms INTEGER NOT NULL,
    level TEXT NOT NULL,
    model_version TEXT NOT NULL,
    computed_at_ms INTEGER NOT NULL
) STRICT""",
    "CREATE UNIQUE INDEX idx_mastery_student_concept ON concept_mastery (student_id, concept_id)",
    # Students whose attempts changed since concept_mastery was last computed for them. `mark` is 0 while they only got new ones, and names the latest other change.
    """CREATE TABLE mastery_stale (
    student_id TEXT NOT NULL PRIMARY KEY,
    mark INTEGER NOT NULL DEFAULT (random())
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE study_plans (
    id TEXT NOT NULL PRIMARY KEY,
    student_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    starts_on TEXT NOT NULL,
    days INTEGER NOT NULL,
    planner_version TEXT NOT NULL,
    forecast TEXT,
    notes TEXT,
    device_id TEXT NOT NULL,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_study_plans_student ON study_plans (student_id, created_at_ms)",
    """CREATE TABLE study_plan_items (
    id TEXT NOT NULL PRIMARY KEY,
    plan_id TEXT NOT NULL,
    student_id TEXT NOT NULL,
    concept_id TEXT NOT NULL,
    day TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    minutes INTEGER NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL,
    moved_to TEXT,
    clocks TEXT NOT NULL DEFAULT '{}',
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_study_plan_items_plan ON study_plan_items (plan_id, day, position)",
    """CREATE TABLE plan_rules (
    id TEXT NOT NULL PRIMARY KEY,
    student_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    concept_id TEXT,
    day TEXT,
    created_at_ms INTEGER NOT NULL,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_plan_rules_student ON plan_rules (student_id)",
    # Values that lost a merge, as the server keeps them.
    """CREATE TABLE sync_conflicts (
    id TEXT NOT NULL PRIMARY KEY,
    student_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    row_id TEXT NOT NULL,
    field TEXT NOT NULL,
    base_value TEXT,
    base_clock TEXT,
    kept_value TEXT,
    kept_clock TEXT,
    lost_value TEXT,
    lost_clock TEXT NOT NULL,
    device_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    restored_at_ms INTEGER,
    feed_no INTEGER NOT NULL DEFAULT 0,
    _extra TEXT
) STRICT""",
    "CREATE INDEX idx_sync_conflicts_student ON sync_conflicts (student_id, created_at_ms)",
)

_SYNC = (
    # `identity` and `sync_progress` hold one row each.
    """CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    device_id TEXT NOT NULL,
    school_id TEXT NOT NULL,
    school_name TEXT NOT NULL,
    cloud_url TEXT NOT NULL,
    server_epoch TEXT NOT NULL,
    instance TEXT NOT NULL,
    server_seal_key TEXT,
    server_verify_key TEXT,
    enrolled_at_ms INTEGER NOT NULL
) STRICT""",
    # The log's place: operations up to acked_op_no are settled; an operation's seq is op_no - seq_base. Those up to durable_op_no are in a
    # backup of the server's. While rebaselining, everything is pulled from the start, and what the server does not name any more goes at the
    # end of it: its own words only, or, when nothing was lost there, students' rows as well.
    """CREATE TABLE sync_progress (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    incarnation TEXT NOT NULL,
    seq_base INTEGER NOT NULL DEFAULT 0,
    acked_op_no INTEGER NOT NULL DEFAULT 0,
    chain TEXT NOT NULL,
    durable_op_no INTEGER NOT NULL DEFAULT 0,
    rebaselining TEXT NOT NULL DEFAULT 'no' CHECK (rebaselining IN ('no', 'server_rows', 'all_rows')),
    last_contact_ms INTEGER,
    last_push_ms INTEGER,
    last_pull_ms INTEGER,
    last_verify_ms INTEGER,
    last_verify_result TEXT
) STRICT""",
    # AUTOINCREMENT: op_no is dense, in commit order, and never used twice.
    """CREATE TABLE sync_operations (
    op_no INTEGER PRIMARY KEY AUTOINCREMENT,
    op_id TEXT NOT NULL,
    table_name TEXT NOT NULL,
    row_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    hlc INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    mono_ms INTEGER NOT NULL,
    boot_no INTEGER NOT NULL REFERENCES boots (boot_no),
    payload TEXT NOT NULL,
    base TEXT,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'synced', 'rejected')),
    code TEXT,
    message TEXT,
    settled_at_ms INTEGER
) STRICT""",
    "CREATE INDEX idx_sync_pending ON sync_operations (row_id) WHERE state = 'pending'",
    # The few operations that carry a hybrid clock: a daemon that starts goes on from the greatest.
    "CREATE INDEX idx_sync_hlc ON sync_operations (hlc) WHERE hlc > 0",
    "CREATE INDEX idx_sync_rejected ON sync_operations (op_no) WHERE state = 'rejected'",
    "CREATE TABLE boots (boot_no INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE) STRICT",
    "CREATE TABLE cursors (scope TEXT NOT NULL PRIMARY KEY, cursor INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    # The server's version of a row that has changes still queued here.
    """CREATE TABLE shadows (
    table_name TEXT NOT NULL,
    row_id TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (table_name, row_id)
) STRICT, WITHOUT ROWID""",
)

# Who may use the localhost API. Of tokens and PINs only hashes are kept; the key of the PINs' is a file beside the database.
_ACCESS = (
    # `origins` is a JSON array of the web origins that the app's pages come from.
    """CREATE TABLE apps (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token_hash TEXT NOT NULL UNIQUE,
    origins TEXT NOT NULL DEFAULT '[]',
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE student_sessions (
    token_hash TEXT NOT NULL PRIMARY KEY,
    student_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE student_pins (
    student_id TEXT NOT NULL PRIMARY KEY,
    verifier TEXT NOT NULL,
    key_id TEXT NOT NULL,
    set_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID""",
    # Wrong tries since the last right one, and when the last was, by the monotonic clock of a boot. An empty student_id stands for everybody who is
    # not on this device.
    """CREATE TABLE sign_in_tries (
    student_id TEXT NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL,
    failed_at_mono_ms INTEGER NOT NULL,
    boot_id TEXT NOT NULL
) STRICT, WITHOUT ROWID""",
)

_TABLES_CHILDREN_FIRST = (
    "sign_in_tries", "student_pins", "student_sessions", "apps", "shadows", "cursors", "sync_operations", "boots", "sync_progress", "identity", "sync_conflicts", "plan_rules", "study_plan_items", "study_plans",
    "mastery_stale", "concept_mastery", "question_attempts", "student_profiles", "model_weights", "difficulty_snapshots", "questions", "concepts", "topic_prerequisites", "topics",
    "class_members", "classes", "users",
)  # fmt: skip


def migrate(migrator: Any, database: Any, *, fake: bool = False) -> None:
    for statement in (*_CONTENT, *_STUDY, *_SYNC, *_ACCESS):
        migrator.sql(statement)


def rollback(migrator: Any, database: Any, *, fake: bool = False) -> None:
    for table in _TABLES_CHILDREN_FIRST:
        migrator.sql(f"DROP TABLE {table}")
