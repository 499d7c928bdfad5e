"""Devices: what each is, may hold, and has sent."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, BlobField, CompositeKey, IntegerField, JSONField, Model, TextField, UUIDField

from cloud_api.models.base import Row, add_index, references


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
    # The device that this one has become (cloud_api/devices/replacement.py); of that one, since when the machine has had data of the school.
    replaced_by = UUIDField(null=True)
    replaced_at_ms = BigIntegerField(null=True)
    data_since_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "devices"
        constraints = (references("schools", "school_id"),)
        table_settings = ("WITH (fillfactor = 70)",)


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
        constraints = (references("devices", "device_id"), SQL("UNIQUE (school_id, device_id, incarnation)"))
        table_settings = ("WITH (fillfactor = 70)",)


class DeviceGrant(Row):
    device_id = UUIDField()
    kind = TextField(constraints=[SQL("CHECK (kind IN ('class', 'student'))")])
    subject_id = UUIDField()
    granted_at_ms = BigIntegerField()
    ended_at_ms = BigIntegerField(null=True)

    class Meta:
        table_name = "device_grants"
        constraints = (references("devices", "device_id"),)


add_index(
    DeviceGrant,
    "idx_device_grants_open",
    DeviceGrant.school_id,
    DeviceGrant.device_id,
    DeviceGrant.kind,
    DeviceGrant.subject_id,
    unique=True,
    where=DeviceGrant.ended_at_ms.is_null(),
)


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
        constraints = (references("schools", "school_id"),)
