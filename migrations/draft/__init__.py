"""SQL that leads from one schema to another: the draft of a migration. Pure.

What is drafted is what can be done in place, fast, and without asking the rows: tables, columns that are nullable or have a constant
default, indexes, triggers, routines; on PostgreSQL also CHECK and foreign keys, defaults, and dropping NOT NULL. Everything else is named
in a sentence, for a person to write.
"""

from __future__ import annotations

from migrations.draft.postgres import PostgresDrafter
from migrations.draft.sqlite import SqliteDrafter
from migrations.draft.steps import Draft
from migrations.files import Kind
from migrations.schema.description import Difference, Schema, differences

# What no comparison of schemas can see; said whenever a file is drafted.
NEVER_SEEN = (
    "A rename looks like a drop and an add, which loses what is stored.",
    "Rows to fill in or to convert, privileges, comments, and the order of columns are not seen.",
)


def drafts(kind: Kind, have: Schema, want: Schema) -> tuple[Draft, Draft]:
    """The way from `have` to `want` and the way back, two schemas of this kind of database; empty when they are equal.

    Both are in pieces or neither is, as the two functions of one file must be.
    """
    piecewise = kind == "cloud" and any(_needs_pieces(d) for d in (*differences(want, have), *differences(have, want)))
    drafter = PostgresDrafter if kind == "cloud" else SqliteDrafter
    return drafter(have, want, piecewise).run(), drafter(want, have, piecewise).run()


def _needs_pieces(difference: Difference) -> bool:
    """Whether PostgreSQL refuses it in a transaction (CONCURRENTLY), or would hold a lock there for long (VALIDATE)."""
    return difference.part == "index" or (difference.part == "constraint" and difference.wanted is not None)
