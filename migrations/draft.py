"""SQL that leads from one schema to another: the draft of a migration. Pure.

What is drafted is what can be done in place, fast, and without asking the rows: tables, columns that are nullable or have a constant
default, indexes, triggers, routines; on PostgreSQL also CHECK and foreign keys, defaults, and dropping NOT NULL. Everything else is named
in a sentence, for a person to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from migrations.files import Kind
from migrations.schema.description import Column, Difference, Schema, Table, differences
from migrations.schema.postgres import drop_routine
from migrations.schema.sqltext import quoted, tokens

# What no comparison of schemas can see; said whenever a file is drafted.
NEVER_SEEN = (
    "A rename looks like a drop and an add, which loses what is stored.",
    "Rows to fill in or to convert, privileges, comments, and the order of columns are not seen.",
)


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


def drafts(kind: Kind, have: Schema, want: Schema) -> tuple[Draft, Draft]:
    """The way from `have` to `want` and the way back, two schemas of this kind of database; empty when they are equal.

    Both are in pieces or neither is, as the two functions of one file must be.
    """
    piecewise = kind == "cloud" and any(_needs_pieces(d) for d in (*differences(want, have), *differences(have, want)))
    drafter = _Postgres if kind == "cloud" else _Sqlite
    return drafter(have, want, piecewise).run(), drafter(want, have, piecewise).run()


def _needs_pieces(difference: Difference) -> bool:
    """Whether PostgreSQL refuses it in a transaction (CONCURRENTLY), or would hold a lock there for long (VALIDATE)."""
    return difference.part == "index" or (difference.part == "constraint" and difference.wanted is not None)


class _Drafter:
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
            self._refuse_options,
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

    def _refuse_options(self) -> None:
        for difference in self._of("options"):
            self._by_hand(difference, "the table must be rebuilt or altered by hand")

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
        return f"its {table.unknown} must be written by hand" if table.unknown else None


class _Sqlite(_Drafter):
    """SQLite alters nothing in place but by adding and dropping columns."""

    def _drop_trigger(self, difference: Difference) -> str:
        return f"DROP TRIGGER {quoted(difference.name)}"

    def _drop_constraints(self) -> None:
        dropped = {(d.table, d.name) for d in self._of("column") if d.wanted is None}
        for difference in self._of("constraint"):
            if difference.found and (difference.table, _only_column(difference.name, self.have.tables[difference.table])) not in dropped:
                self._by_hand(difference, "SQLite must rebuild the table")

    def _add_constraints(self) -> None:
        added = {(d.table, d.name) for d in self._of("column") if d.found is None}
        for difference in self._of("constraint"):
            if difference.wanted and (difference.table, _only_column(difference.name, self.want.tables[difference.table])) not in added:
                self._by_hand(difference, "SQLite must rebuild the table")

    def _change_column(self, difference: Difference) -> None:
        self._by_hand(difference, "SQLite must rebuild the table")

    def _inline(self, table: str, column: Column) -> Iterator[str]:
        want = self.want.tables[table]
        for text in want.constraints:
            if text not in self.have.tables[table].constraints and _only_column(text, want) == column.name:
                yield text.partition(") ")[2] if text.startswith("FOREIGN KEY") else text

    def _against_dropping(self, difference: Difference) -> str | None:
        table = self.have.tables[difference.table]
        if any(text.startswith("FOREIGN KEY") and _only_column(text, table) == difference.name for text in table.constraints):
            return "SQLite cannot drop a column that refers to another table, and must rebuild this one"
        return None


class _Postgres(_Drafter):
    """Indexes of existing tables CONCURRENTLY, constraints in two steps, so that no statement stops the school for long."""

    def run(self) -> Draft:
        super().run()
        if self.draft.piecewise:
            once = self.draft.statements
            self.draft.statements = [statement for one in once for statement in _repeatable(one)]
            if any(" ADD CONSTRAINT " in one for one in once) and not any(" DROP CONSTRAINT " in one for one in once):
                self.draft.accepted = {"ban-drop-constraint": "only what an earlier, broken run of this file made is dropped"}
        return self.draft

    def _drop_indexes(self) -> None:
        for difference in self._of("index"):
            if difference.found:
                self._do(f"DROP INDEX CONCURRENTLY {quoted(difference.name)}")

    def _create_index(self, text: str) -> None:
        self._do(text.replace("INDEX ", "INDEX CONCURRENTLY ", 1) if self.draft.piecewise else text)

    def _drop_trigger(self, difference: Difference) -> str:
        return f"DROP TRIGGER {quoted(difference.name)} ON {quoted(difference.table)}"

    def _drop_constraints(self) -> None:
        for difference in self._of("constraint"):
            if difference.found:
                self._do(f"ALTER TABLE {quoted(difference.table)} DROP CONSTRAINT {quoted(difference.name)}")

    def _add_constraints(self) -> None:
        for difference in self._of("constraint"):
            if difference.wanted is None:
                continue
            if not difference.wanted.startswith(("CHECK", "FOREIGN KEY")):
                self._by_hand(difference, "build a unique index CONCURRENTLY in its place, or give it one with USING INDEX")
                continue
            table, name = quoted(difference.table), quoted(difference.name)
            self._do(f"ALTER TABLE {table} ADD CONSTRAINT {name} {difference.wanted.removesuffix(' NOT VALID')} NOT VALID")
            if not difference.wanted.endswith(" NOT VALID"):
                self._do(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")

    def _change_column(self, difference: Difference) -> None:
        want = self.want.tables[difference.table].columns[difference.name]
        have = self.have.tables[difference.table].columns[difference.name]
        if want.type != have.type:
            self._by_hand(difference, "another type rewrites the table: add a new column, fill it, then let go of the old one")
        elif want.extra != have.extra:
            self._by_hand(difference, "what is generated cannot be changed in place")
        elif have.nullable and not want.nullable:
            self._by_hand(difference, "add CHECK (… IS NOT NULL) NOT VALID, fill the rows, validate it, then SET NOT NULL")
        else:
            alter = f"ALTER TABLE {quoted(difference.table)} ALTER COLUMN {quoted(difference.name)}"
            if want.nullable != have.nullable:
                self._do(f"{alter} DROP NOT NULL")
            if want.default != have.default:
                self._do(f"{alter} DROP DEFAULT" if want.default is None else f"{alter} SET DEFAULT {want.default}")

    def _inline(self, table: str, column: Column) -> Iterable[str]:
        return ()

    def _against_dropping(self, difference: Difference) -> str | None:
        return None

    def _against_table(self, table: Table) -> str | None:
        if any("nextval(" in (column.default or "") for column in table.columns.values()):
            return "its sequence cannot be seen: use GENERATED … AS IDENTITY"
        return super()._against_table(table)


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


def _only_column(constraint: str, table: Table) -> str | None:
    """The one column of the table that a constraint is about; None when there are more, or for a key of the whole table."""
    if not constraint.startswith(("CHECK", "FOREIGN KEY")):
        return None
    subject = constraint.partition(" REFERENCES ")[0]
    words = set(tokens(subject))
    names = [name for name in table.columns if quoted(name) in words]
    return names[0] if len(names) == 1 else None


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


_WHERE_TO_REPEAT = (
    (re.compile(r"\ACREATE TABLE "), "CREATE TABLE IF NOT EXISTS "),
    (re.compile(r"\ADROP (TABLE|INDEX CONCURRENTLY|TRIGGER|FUNCTION|VIEW) "), r"DROP \1 IF EXISTS "),
    (re.compile(r"\ACREATE( UNIQUE)? INDEX( CONCURRENTLY)? "), r"CREATE\1 INDEX\2 IF NOT EXISTS "),
    (re.compile(r"\A(ALTER TABLE \S+) ADD COLUMN "), r"\1 ADD COLUMN IF NOT EXISTS "),
    (re.compile(r"\A(ALTER TABLE \S+) DROP (COLUMN|CONSTRAINT) "), r"\1 DROP \2 IF EXISTS "),
)


def _repeatable(statement: str) -> Iterator[str]:
    """The same in words that may run again; what has no such words is dropped first."""
    if match := re.match(r"(ALTER TABLE \S+) ADD CONSTRAINT (\S+) ", statement):
        yield f"{match[1]} DROP CONSTRAINT IF EXISTS {match[2]}"
    if match := re.match(r"CREATE TRIGGER (\S+) .*? ON (\S+) ", statement):
        yield f"DROP TRIGGER IF EXISTS {match[1]} ON {match[2]}"
    for pattern, replacement in _WHERE_TO_REPEAT:
        statement = pattern.sub(replacement, statement, count=1)
    yield statement
