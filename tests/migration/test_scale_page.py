"""What docs/scale.md says about distributing the tables is true of the schema."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import psycopg2

from migrations.runner import upgrade_cloud

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_what_is_dropped_for_citus_is_all_that_is_unique_across_schools(fresh_database: str) -> None:
    upgrade_cloud(fresh_database)
    [block] = re.findall(r"^CREATE EXTENSION citus;\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    reference_tables = set(re.findall(r"create_reference_table\('(\w+)'\)", block))
    with closing(psycopg2.connect(fresh_database)) as connection, connection.cursor() as cursor:
        for statement in re.findall(r"^(?:ALTER TABLE|CREATE INDEX) [^;]+;", block, re.MULTILINE):
            cursor.execute(statement)
        cursor.execute(
            "SELECT relname FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = current_schema()::regnamespace"
            " AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'school_id')"
        )
        assert {name for (name,) in cursor.fetchall()} == reference_tables | {"schools"}
        cursor.execute(
            "SELECT DISTINCT relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE indisunique"
            " AND relnamespace = current_schema()::regnamespace AND pg_get_indexdef(indexrelid) NOT LIKE '%school_id%'"
        )
        assert {name for (name,) in cursor.fetchall()} == reference_tables | {"schools"}
