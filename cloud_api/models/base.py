"""What tables of the server have in common."""

from __future__ import annotations

from typing import Any

from peewee import SQL, BigIntegerField, CompositeKey, IntegerField, JSONField, Model, TextField, UUIDField


class JSONTextField(TextField):
    """PostgreSQL's `json`: the text is kept to the letter."""

    field_type = "json"


class Row(Model):
    """A row that belongs to a school and has an id of its own."""

    school_id = UUIDField()
    id = UUIDField()

    class Meta:
        primary_key = CompositeKey("school_id", "id")
        legacy_table_names = False


class SyncedRow(Row):
    """A row that travels to devices."""

    feed_no = BigIntegerField()
    origin_no = IntegerField(constraints=[SQL("DEFAULT 0")])
    extra = JSONField(column_name="_extra", null=True)


def references(table: str, column: str) -> SQL:
    """The foreign key of a row's school alone, or of another row of the same school."""
    if table == "schools":
        return SQL("FOREIGN KEY (school_id) REFERENCES schools (id)")
    return SQL(f"FOREIGN KEY (school_id, {column}) REFERENCES {table} (school_id, id)")


def add_index(model: Any, name: str, *columns: Any, unique: bool = False, where: Any = None) -> None:
    model.add_index(model.index(*columns, name=name, unique=unique, where=where))


def add_external_index(model: Any, name: str) -> None:
    add_index(model, name, model.school_id, model.external_id, unique=True, where=model.external_id.is_null(False))
