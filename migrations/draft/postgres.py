"""The draft for a school's server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from migrations.draft.steps import Draft, Drafter
from migrations.schema.description import Column, Difference, Table
from migrations.schema.sqltext import quoted


class PostgresDrafter(Drafter):
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
