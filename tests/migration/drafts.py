"""Models made for one test, from a description that can be changed step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peewee as pw

from migrations.files import Kind
from migrations.schema.models import ModelSet

# SQL of a model; psycopg2 wants every percent sign twice.
Spelling = Callable[[str], pw.SQL]

FIELDS: dict[str, type[pw.Field]] = {"text": pw.TextField, "integer": pw.BigIntegerField, "real": pw.DoubleField}
DEFAULTS = {"text": "'it''s 100%'", "integer": "7", "real": "0.5"}


@dataclass(frozen=True)
class Col:
    """`kind`: text, integer or real. `default`: NOT NULL with the default of the kind, or that; otherwise nullable, unless `required`."""

    kind: str = "text"
    default: bool | str = False
    required: bool = False
    check: str = ""

    def field(self, sql: Spelling) -> pw.Field:
        constraints = [sql(f"DEFAULT {DEFAULTS[self.kind] if self.default is True else self.default}")] if self.default else []
        constraints += [sql(f"CHECK ({self.check})")] if self.check else []
        return FIELDS[self.kind](null=not (self.default or self.required), constraints=constraints)


@dataclass(frozen=True)
class Idx:
    columns: tuple[str, ...]
    unique: bool = False
    where: str = ""


@dataclass(frozen=True)
class Tab:
    """A table with an integer key `id`."""

    columns: Mapping[str, Col] = field(default_factory=dict)
    indexes: Mapping[str, Idx] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()


def models(kind: Kind, tables: Mapping[str, Tab], after_tables: tuple[str, ...] = ()) -> ModelSet:
    """The models of these tables, for one kind of database."""

    def sql(text: str) -> pw.SQL:
        return pw.SQL(text.replace("%", "%%") if kind == "cloud" else text)

    return ModelSet(tuple(_model(name, table, sql) for name, table in tables.items()), tuple(sql(text).sql for text in after_tables))


def _model(name: str, table: Tab, sql: Spelling) -> type[pw.Model]:
    meta: dict[str, Any] = {"table_name": name, "constraints": [sql(text) for text in table.constraints]}
    fields: dict[str, Any] = {"id": pw.BigIntegerField(primary_key=True)} | {c: col.field(sql) for c, col in table.columns.items()}
    model: Any = type(name.title(), (pw.Model,), {**fields, "Meta": type("Meta", (), meta)})
    for index, idx in table.indexes.items():
        where = sql(idx.where) if idx.where else None
        model.add_index(model.index(*(getattr(model, c) for c in idx.columns), name=index, unique=idx.unique, where=where))
    return model  # type: ignore[no-any-return]
