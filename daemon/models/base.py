"""What tables of the device have in common."""

from __future__ import annotations

import peewee as pw


class Table(pw.Model):
    """A table whose columns hold what they say they hold."""

    class Meta:
        strict_tables = True


class SyncedRow(Table):
    """A row that the school has as well. `extra` is what a newer version sent, as JSON (domain/registry.py)."""

    id = pw.TextField(primary_key=True)
    feed_no = pw.BigIntegerField(default=0, constraints=[pw.SQL("DEFAULT 0")])
    extra = pw.TextField(column_name="_extra", null=True)
