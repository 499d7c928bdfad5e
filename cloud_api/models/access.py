"""People at the server."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, BlobField, CompositeKey, IntegerField, Model, UUIDField

from cloud_api.models.base import add_index, references


class UserSession(Model):
    school_id = UUIDField()
    token_hash = BlobField(constraints=[SQL("UNIQUE")])
    user_id = UUIDField()
    started_at_ms = BigIntegerField()
    used_at_ms = BigIntegerField()

    class Meta:
        table_name = "user_sessions"
        primary_key = CompositeKey("school_id", "token_hash")
        constraints = (references("users", "user_id"),)


add_index(UserSession, "idx_user_sessions_user", UserSession.school_id, UserSession.user_id)


class WrongTries(Model):
    key = BlobField(primary_key=True)
    failures = IntegerField()
    failed_at_ms = BigIntegerField()

    class Meta:
        table_name = "wrong_tries"
        table_settings = ("WITH (fillfactor = 70)",)


add_index(WrongTries, "idx_wrong_tries_time", WrongTries.failed_at_ms)
