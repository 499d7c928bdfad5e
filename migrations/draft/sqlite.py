"""The draft for a device."""

from __future__ import annotations

from collections.abc import Iterator

from migrations.draft.steps import Drafter
from migrations.schema.description import Column, Difference, Table
from migrations.schema.sqltext import quoted, tokens


class SqliteDrafter(Drafter):
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


def _only_column(constraint: str, table: Table) -> str | None:
    """The one column of the table that a constraint is about; None when there are more, or for a key of the whole table."""
    if not constraint.startswith(("CHECK", "FOREIGN KEY")):
        return None
    subject = constraint.partition(" REFERENCES ")[0]
    words = set(tokens(subject))
    names = [name for name in table.columns if quoted(name) in words]
    return names[0] if len(names) == 1 else None
