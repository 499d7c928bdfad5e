"""The steps from one schema to another that both databases take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from migrations.schema.description import Column, Difference, Schema, Table, differences
from migrations.schema.postgres import drop_routine
from migrations.schema.sqltext import quoted, tokens


@dataclass
class Draft:
    """Statements in the order in which they run; what has to be written by hand instead; what a person should know.

    `piecewise`: the statements must run one by one, outside a transaction, and can be repeated after a part of them was done.
    `accepted`: rules of the lint that they break, and why they may (migrations.lint).
    """

    statements: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    piecewise: bool = False
    accepted: dict[str, str] = field(default_factory=dict)


class Drafter:
    """The steps, in an order in which nothing refers to what is not there yet, or not there any more."""

    def __init__(self, have: Schema, want: Schema, piecewise: bool) -> None:
        self.have = have
        self.want = want
        self.draft = Draft(piecewise=piecewise)
        self.differences = differences(want, have)

    def run(self) -> Draft:
        """Take all steps."""
        for step in (
            self._drop_triggers,
            self._drop_indexes,
            self._drop_constraints,
            self._drop_tables,
            self._create_tables,
            self._add_columns,
            self._change_columns,
            self._drop_columns,
            self._add_constraints,
            self._create_indexes,
            self._change_routines,
            self._create_triggers,
            self._refuse_the_rest,
        ):
            step()
        return self.draft

    # --- what the steps are made of

    def _of(self, *parts: str) -> Iterator[Difference]:
        return (difference for difference in self.differences if difference.part in parts)

    def _do(self, statement: str) -> None:
        self.draft.statements.append(statement)

    def _by_hand(self, difference: Difference, why: str) -> None:
        self.draft.by_hand.append(f"{difference}; {why}")

    def _column(self, difference: Difference) -> Column:
        """The column that is wanted, or else the one there is."""
        return (self.want if difference.wanted else self.have).tables[difference.table].columns[difference.name]

    # --- the steps

    def _drop_triggers(self) -> None:
        for difference in self._of("trigger"):
            if difference.found:
                self._do(self._drop_trigger(difference))

    def _drop_indexes(self) -> None:
        for difference in self._of("index"):
            if difference.found:
                self._do(f"DROP INDEX {quoted(difference.name)}")

    def _drop_tables(self) -> None:
        dropped = [self.have.tables[difference.name] for difference in self._of("table") if difference.found]
        for table in reversed(_parents_first(dropped)):
            self._do(f"DROP TABLE {quoted(table.name)}")
            self.draft.warnings.append(f"table {table.name} is dropped with its rows")

    def _create_tables(self) -> None:
        created = [self.want.tables[difference.name] for difference in self._of("table") if difference.wanted]
        for table in _parents_first(created):
            if reason := self._against_table(table):
                self.draft.by_hand.append(f"table {table.name} is missing; {reason}")
                continue
            self._do(table.definition)
            for text in table.indexes.values():
                self._create_index(text)

    def _add_columns(self) -> None:
        for difference in self._of("column"):
            if difference.found is None:
                column = self._column(difference)
                if reason := _against_adding(column):
                    self._by_hand(difference, reason)
                else:
                    clauses = " ".join([column.definition, *self._inline(difference.table, column)])
                    self._do(f"ALTER TABLE {quoted(difference.table)} ADD COLUMN {clauses}")

    def _change_columns(self) -> None:
        for difference in self._of("column"):
            if difference.found and difference.wanted:
                self._change_column(difference)

    def _drop_columns(self) -> None:
        for difference in self._of("column"):
            if difference.wanted is None:
                if reason := self._against_dropping(difference):
                    self._by_hand(difference, reason)
                    continue
                self._do(f"ALTER TABLE {quoted(difference.table)} DROP COLUMN {quoted(difference.name)}")
                self._warn_of_loss(difference)

    def _warn_of_loss(self, difference: Difference) -> None:
        added = [d.name for d in self._of("column") if d.table == difference.table and d.found is None]
        renamed = f" (if it is {' or '.join(added)} now, write ALTER TABLE … RENAME COLUMN by hand)" if added else ""
        self.draft.warnings.append(f"column {difference.table}.{difference.name} is dropped with its values{renamed}")

    def _create_indexes(self) -> None:
        for difference in self._of("index"):
            if difference.wanted:
                self._create_index(difference.wanted)

    def _create_index(self, text: str) -> None:
        self._do(text)

    def _change_routines(self) -> None:
        for difference in self._of("routine"):
            if difference.found and not (difference.wanted or "").startswith("CREATE OR REPLACE"):
                self._do(drop_routine(difference.name))
            if difference.wanted:
                self._do(difference.wanted.strip())

    def _create_triggers(self) -> None:
        for difference in self._of("trigger"):
            if difference.wanted:
                self._do(difference.wanted)
        for difference in self._of("table"):
            if difference.wanted:
                for text in self.want.tables[difference.name].triggers.values():
                    self._do(text)

    def _refuse_the_rest(self) -> None:
        for difference in self._of("options"):
            self._by_hand(difference, "the table must be rebuilt or altered by hand")
        for difference in self._of("policy"):
            self._by_hand(difference, "who may see which rows is for a person to write")

    # --- what the engines do each in their way

    def _drop_trigger(self, difference: Difference) -> str:
        raise NotImplementedError

    def _drop_constraints(self) -> None:
        raise NotImplementedError

    def _add_constraints(self) -> None:
        raise NotImplementedError

    def _change_column(self, difference: Difference) -> None:
        raise NotImplementedError

    def _inline(self, table: str, column: Column) -> Iterable[str]:
        """Constraints that are written behind a new column."""
        raise NotImplementedError

    def _against_dropping(self, difference: Difference) -> str | None:
        """Why a column cannot be dropped in place, or None."""
        raise NotImplementedError

    def _against_table(self, table: Table) -> str | None:
        """Why a new table cannot be made from its description, or None."""
        rest = ", ".join(filter(None, [table.unknown, *(f"policy {name}" for name in table.policies)]))
        return f"its {rest} must be written by hand" if rest else None


def _against_adding(column: Column) -> str | None:
    """Why a column cannot be added in place to a table that has rows, or None."""
    if column.extra.startswith("GENERATED") and not column.extra.endswith("VIRTUAL"):
        return "it would rewrite the table"
    if column.default is not None and not _is_constant(column.default):
        return "a default that is worked out for each row rewrites the table"
    if not column.nullable and column.default is None and not column.extra.startswith("GENERATED"):
        return "the rows there are would have no value: give it a default, or make it nullable and fill it"
    return None


def _is_constant(default: str) -> bool:
    return not any(token == "(" or token.startswith("CURRENT_") for token in tokens(default))


def _parents_first(tables: list[Table]) -> list[Table]:
    """In an order in which each table comes after those it refers to; tables that refer to each other stay as they were."""
    ordered: list[Table] = []
    waiting = list(tables)
    while waiting:
        names = {quoted(table.name) for table in waiting}
        free = [table for table in waiting if not (_parents(table) - {quoted(table.name)}) & names] or waiting
        ordered += free
        waiting = [table for table in waiting if table not in free]
    return ordered


def _parents(table: Table) -> set[str]:
    return {match[1] for text in table.constraints.values() for match in re.finditer(r'REFERENCES ("[^"]+"|\w+)', text)}
