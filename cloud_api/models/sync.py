"""What sync keeps beside the rows."""

from __future__ import annotations

from peewee import SQL, BigIntegerField, BooleanField, CompositeKey, IntegerField, JSONField, Model, TextField, UUIDField

from cloud_api.models.base import JSONTextField, Row, SyncedRow, add_index, references


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
        constraints = (references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "scope", "table", "row_id")


add_index(Tombstone, "idx_tombstones_feed", Tombstone.school_id, Tombstone.scope, Tombstone.feed_no)
add_index(Tombstone, "idx_tombstones_row", Tombstone.school_id, Tombstone.table, Tombstone.row_id)


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
        constraints = (references("schools", "school_id"),)


add_index(DeadLetter, "idx_dead_letters_row", DeadLetter.school_id, DeadLetter.row_id)
add_index(DeadLetter, "idx_dead_letters_device", DeadLetter.school_id, DeadLetter.device_id)


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
        constraints = (references("schools", "school_id"),)


add_index(SyncConflict, "idx_sync_conflicts_row", SyncConflict.school_id, SyncConflict.table, SyncConflict.row_id)
add_index(SyncConflict, "idx_sync_conflicts_feed", SyncConflict.school_id, SyncConflict.student_id, SyncConflict.feed_no)


class SettledValue(Model):
    school_id = UUIDField()
    key = UUIDField()
    settled_at_ms = BigIntegerField()

    class Meta:
        table_name = "settled_values"
        constraints = (references("schools", "school_id"),)
        primary_key = CompositeKey("school_id", "key")


add_index(SettledValue, "idx_settled_values_time", SettledValue.school_id, SettledValue.settled_at_ms)


class SyncHour(Model):
    school_id = UUIDField()
    hour_ms = BigIntegerField()
    operations = BigIntegerField()
    backlog = BigIntegerField()
    counted_at_ms = BigIntegerField()

    class Meta:
        table_name = "sync_hours"
        primary_key = CompositeKey("school_id", "hour_ms")
        constraints = (references("schools", "school_id"),)
        table_settings = ("WITH (fillfactor = 50)",)


class FeedDay(Model):
    school_id = UUIDField()
    day_ms = BigIntegerField()
    noted_at_ms = BigIntegerField()
    head = BigIntegerField()

    class Meta:
        table_name = "feed_days"
        primary_key = CompositeKey("school_id", "day_ms")
        constraints = (references("schools", "school_id"),)
