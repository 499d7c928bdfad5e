"""Schemas as values, and what differs between two of them. Pure.

The order of columns is not part of a schema: a column that was added later stands last, wherever a model names it. Neither are
comments, privileges and owners, rows, sequences, types and extensions, statistics, rules, publications, and whether a table is
partitioned (its partitions are left out). Row-level security is: whether a table has it, and its policies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from migrations.schema.sqltext import quoted

# How much of a definition is shown where it differs.
_SHOWN_CHARS_MAX = 300

# Runs SQL with parameters and gives a cursor.
Execute = Callable[..., Any]

Part = Literal["table", "column", "constraint", "index", "trigger", "policy", "options", "routine"]


@dataclass(frozen=True)
class Column:
    """One column. `default` is an SQL expression; `extra` what follows it: COLLATE …, GENERATED ALWAYS AS …."""

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    extra: str = ""

    @property
    def definition(self) -> str:
        """As it stands in CREATE TABLE and after ADD COLUMN."""
        default = None if self.default is None else f"DEFAULT {self.default}"
        parts = (quoted(self.name), self.type, None if self.nullable else "NOT NULL", default, self.extra)
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Table:
    """One table.

    `constraints`: name -> definition (`CHECK (…)`, `FOREIGN KEY …`); SQLite does not tell their names, there the definition is the name as
    well. `indexes`, `triggers`, `policies`: name -> CREATE statement; an index that only serves a constraint is left out. `options`: what
    follows the bracket of CREATE TABLE. `unknown`: what else is particular about it, and has no place in `definition`.
    """

    name: str
    columns: Mapping[str, Column]
    constraints: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)
    triggers: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    options: str = ""
    unknown: str = ""

    @property
    def definition(self) -> str:
        """CREATE TABLE, a line for each column and constraint; without its indexes, triggers and policies."""
        lines = [column.definition for column in self.columns.values()]
        lines += [text if name == text else f"CONSTRAINT {quoted(name)} {text}" for name, text in self.constraints.items()]
        body = "".join(f"    {line},\n" for line in lines).removesuffix(",\n")
        return f"CREATE TABLE {quoted(self.name)} (\n{body}\n) {self.options}".rstrip()


@dataclass(frozen=True)
class Schema:
    """All that a database holds beside its rows and the history. `routines`: functions and views, name -> CREATE statement."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    routines: Mapping[str, str] = field(default_factory=dict)


class Difference(NamedTuple):
    """One thing that is missing (`found` None), not expected (`wanted` None) or not the same. The two are definitions, as SQL."""

    part: Part
    table: str
    name: str
    wanted: str | None
    found: str | None

    @property
    def place(self) -> str:
        """What differs: `users: column nickname`."""
        if self.part in ("table", "routine"):
            return f"{self.part} {self.name}"
        return f"{self.table}: {self.part if self.part == 'options' else f'{self.part} {self.name}'}"

    def __str__(self) -> str:
        shown = [None if text is None else _brief(text) for text in (self.wanted, self.found)]
        if self.found is None:
            return f"{self.place} is missing" + ("" if self.part == "table" else f": {shown[0]}")
        if self.wanted is None:
            return f"{self.place} is not expected" + ("" if self.part == "table" else f": {shown[1]}")
        return f"{self.place} differs: expected {shown[0] or 'none'}, found {shown[1] or 'none'}"


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS_MAX else line[: _SHOWN_CHARS_MAX - 1] + "…"


def differences(wanted: Schema, found: Schema) -> list[Difference]:
    """What of `wanted` is missing or other in `found`, and what is there too much; nothing for equal schemas."""
    return list(_differences(wanted, found))


def _differences(wanted: Schema, found: Schema) -> Iterator[Difference]:
    for name in _names(wanted.tables, found.tables):
        want, have = wanted.tables.get(name), found.tables.get(name)
        if want is None or have is None:
            wanted_text, found_text = (None if table is None else table.definition for table in (want, have))
            yield Difference("table", name, name, wanted_text, found_text)
        else:
            yield from _in_table(want, have)
    yield from _among("routine", "", wanted.routines, found.routines)


def _in_table(want: Table, have: Table) -> Iterator[Difference]:
    yield from _among("column", want.name, *({c.name: c.definition for c in table.columns.values()} for table in (want, have)))
    yield from _among("constraint", want.name, want.constraints, have.constraints)
    yield from _among("index", want.name, want.indexes, have.indexes)
    yield from _among("trigger", want.name, want.triggers, have.triggers)
    yield from _among("policy", want.name, want.policies, have.policies)
    options = [" ".join(filter(None, (table.options, table.unknown))) for table in (want, have)]
    if options[0] != options[1]:
        yield Difference("options", want.name, "options", options[0], options[1])


def _among(part: Part, table: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    for name in _names(wanted, found):
        if wanted.get(name) != found.get(name):
            yield Difference(part, table, name, wanted.get(name), found.get(name))


def _names(wanted: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    return [*wanted, *(name for name in found if name not in wanted)]
