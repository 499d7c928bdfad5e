"""Who this device is, its operations, and how far it and the school are."""

from __future__ import annotations

import peewee as pw

from daemon.models.base import SyncedRow, Table


class SyncConflict(SyncedRow):
    """A value that lost a merge, as the server keeps it. Values and clocks are JSON."""

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

    class Meta:
        table_name = "sync_conflicts"


SyncConflict.add_index(SyncConflict.student_id, SyncConflict.created_at_ms, name="idx_sync_conflicts_student")


class Identity(Table):
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


class SyncProgress(Table):
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


class SyncOperation(Table):
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


SyncOperation.add_index(SyncOperation.row_id, name="idx_sync_pending", where=pw.SQL("state = 'pending'"))
SyncOperation.add_index(SyncOperation.hlc, name="idx_sync_hlc", where=pw.SQL("hlc > 0"))
SyncOperation.add_index(SyncOperation.op_no, name="idx_sync_rejected", where=pw.SQL("state = 'rejected'"))


class Boot(Table):
    """A boot of the machine under which operations were written."""

    boot_no = pw.AutoField()
    boot_id = pw.TextField(constraints=[pw.SQL("UNIQUE")])  # unique=True would stand for an index with a name of its own

    class Meta:
        table_name = "boots"


class Cursor(Table):
    """A scope that this device follows, and the feed number up to which it has everything."""

    scope = pw.TextField(primary_key=True)
    cursor = pw.BigIntegerField()

    class Meta:
        table_name = "cursors"
        without_rowid = True


class Shadow(Table):
    """The server's version of a row that has changes still queued here."""

    table_name = pw.TextField()
    row_id = pw.TextField()
    data = pw.TextField()

    class Meta:
        table_name = "shadows"
        primary_key = pw.CompositeKey("table_name", "row_id")
        without_rowid = True
