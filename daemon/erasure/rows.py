"""What a device's database holds about one student: found and deleted, and the log closed up behind it.

Every function takes the connection of a `DeviceDatabase.write` that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from domain.registry import ScopeKind, Table, tables_in


def operations_of(conn: sqlite3.Connection, student: str) -> list[int]:
    """The places of the student's operations: those that name the student, and those of rows that are or were the student's."""
    rows = " UNION ".join(f"SELECT id FROM {table.name} WHERE {table.scope_column} = :student" for table in _student_tables())
    found = conn.execute(
        "SELECT op_no FROM sync_operations WHERE row_id = :student OR row_id IN"
        f" ({rows} UNION SELECT row_id FROM sync_operations WHERE instr(payload, :student) > 0) OR instr(payload, :student) > 0"
        " OR instr(base, :student) > 0 ORDER BY op_no",
        {"student": student},
    )
    return [op_no for (op_no,) in found.fetchall()]


def delete_rows(conn: sqlite3.Connection, student: str) -> Iterator[int]:
    """Deletes every row about the student, in whatever table; yields how many each time."""
    for table in _student_tables():
        of_student = f"SELECT id FROM {table.name} WHERE {table.scope_column} = ?"
        yield conn.execute(f"DELETE FROM shadows WHERE table_name = ? AND row_id IN ({of_student})", (table.name, student)).rowcount
    for name, column in [*_tables_with_people(conn), ("student_profiles", "id"), ("users", "id")]:
        yield conn.execute(f"DELETE FROM {name} WHERE {column} = ?", (student,)).rowcount
    scope = f"{ScopeKind.STUDENT}:{student}"
    conn.execute("DELETE FROM cursors WHERE scope = ? OR scope LIKE '%:' || ?", (scope, scope))


def _student_tables() -> Sequence[Table]:
    return tables_in(ScopeKind.STUDENT)


def _tables_with_people(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every table with a column that names a person: also those that no registry knows."""
    return conn.execute(
        "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name IN ('student_id', 'user_id') WHERE m.type = 'table'"
    ).fetchall()


def close_up(conn: sqlite3.Connection, gone: Sequence[int]) -> None:
    """Deletes operations; those behind move up, so that the log has no gap."""
    conn.executemany("DELETE FROM sync_operations WHERE op_no = ?", [(op_no,) for op_no in gone])
    behind = conn.execute("SELECT op_no FROM sync_operations WHERE op_no > ? ORDER BY op_no", (gone[0],)).fetchall()
    moves, before = list[tuple[int, int]](), 0
    for (op_no,) in behind:
        while before < len(gone) and gone[before] < op_no:
            before += 1
        moves.append((op_no - before, op_no))
    conn.executemany("UPDATE sync_operations SET op_no = ? WHERE op_no = ?", moves)
    conn.execute("UPDATE sqlite_sequence SET seq = seq - ? WHERE name = 'sync_operations'", (len(gone),))
    (durable,) = conn.execute("SELECT durable_op_no FROM sync_progress").fetchone()
    conn.execute("UPDATE sync_progress SET durable_op_no = durable_op_no - ?", (sum(op_no <= durable for op_no in gone),))
