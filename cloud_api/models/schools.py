"""The server itself, its schools, and who did what."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, BlobField, BooleanField, JSONField, Model, TextField, UUIDField

from cloud_api.models.base import Row, add_index, references


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


class AuditLog(Row):
    at_ms = BigIntegerField()
    actor = TextField()
    action = TextField()
    subject = TextField(null=True)
    detail = JSONField(null=True)

    class Meta:
        table_name = "audit_log"
        constraints = (references("schools", "school_id"),)


add_index(AuditLog, "idx_audit_log_time", AuditLog.school_id, AuditLog.at_ms)
# When each password was set is asked for after every withdrawal (cloud_api/backups/withdrawals.py).
add_index(
    AuditLog, "idx_audit_log_passwords", AuditLog.school_id, AuditLog.subject, AuditLog.at_ms, where=AuditLog.action == "user.password_set"
)
