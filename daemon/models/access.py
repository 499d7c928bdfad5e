"""Who may use the localhost API."""

from __future__ import annotations

import peewee as pw

from daemon.models.base import Table


class App(Table):
    """A learning app that may use the localhost API; of its token only the hash is kept. `origins` is a JSON array."""

    id = pw.TextField(primary_key=True)
    name = pw.TextField(constraints=[pw.SQL("UNIQUE")])
    token_hash = pw.TextField(constraints=[pw.SQL("UNIQUE")])
    origins = pw.TextField(default="[]", constraints=[pw.SQL("DEFAULT '[]'")])
    created_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "apps"
        without_rowid = True


class StudentSession(Table):
    """A student signed in to a learning app; of the token only its hash is kept."""

    token_hash = pw.TextField(primary_key=True)
    student_id = pw.TextField()
    app_id = pw.TextField()
    created_at_ms = pw.BigIntegerField()
    used_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "student_sessions"
        without_rowid = True


class StudentPin(Table):
    """What a student's PIN is checked with on this device, and under which key it was made."""

    student_id = pw.TextField(primary_key=True)
    verifier = pw.TextField()
    key_id = pw.TextField()
    set_at_ms = pw.BigIntegerField()

    class Meta:
        table_name = "student_pins"
        without_rowid = True


class SignInTries(Table):
    """Wrong tries of a student since the last right one; the time is that of the boot's monotonic clock."""

    student_id = pw.TextField(primary_key=True)
    failures = pw.BigIntegerField()
    failed_at_mono_ms = pw.BigIntegerField()
    boot_id = pw.TextField()

    class Meta:
        table_name = "sign_in_tries"
        without_rowid = True
