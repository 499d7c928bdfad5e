"""Making a PostgreSQL let go of the bytes of rows that were deleted.

DELETE leaves them in the table's file, in its statistics and in the write-ahead log. `rewrite` writes the tables anew (VACUUM FULL), has their statistics
taken again, and lets the log end and the checkpoint remove what came before. Each table is locked while it is written: about a second for each
100 MB. What the server's own administrator keeps besides, archived logs, standbys and backups, is out of reach, and named by `Rewritten`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from cloud_api.database import one_row
from cloud_api.erasure.rights import lacking
from domain.errors import OperatorError
from migrations.engines import first_line
from migrations.waiting import SILENCE, Activity

# Also its own earlier bytes hold values of columns: the most common ones of each.
STATISTICS = "pg_catalog.pg_statistic"
# Whether settings stand in the way of the log's end: a server that keeps old logs, for a standby or an archive, or uses their files again.
_LOG_STAYS = """
SELECT current_setting('wal_recycle') = 'on' OR current_setting('wal_keep_size') <> '0' OR current_setting('archive_mode') <> 'off'
       OR EXISTS (SELECT FROM pg_replication_slots)
"""
# Of a table behind the wall between schools nobody but a superuser may see the statistics.
_TEXTS = """
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0 AND NOT attisdropped
   AND atttypid IN ('text'::regtype, 'json'::regtype, 'jsonb'::regtype)
"""
# The wall between schools (cloud_api/models/wall.sql) stands open for a whole session.
_SESSION = "-c statement_timeout=0 -c lock_timeout=30s -c carrel.every_school=on"
# Whole copies of this server's: what a restore has set aside, and what a restore or the verifying of a backup has left that was killed.
COPIES = (
    "SELECT datname FROM pg_database WHERE datname LIKE current_database() || '\\_replaced\\_%'"
    " OR datname ~ '^carrel_(restore_|scratch_[0-9a-f]+_)[0-9a-f]{12}$' ORDER BY datname"
)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What was done: tables written anew. `log_ended`: no write-ahead log of before is left; `copies` are databases beside this one that
    hold what it held.
    """

    tables: int
    log_ended: bool
    copies: tuple[str, ...]


def rewrite(url: str, tables: Sequence[str], activity: Activity = SILENCE) -> Rewritten:
    """Writes the tables anew. Raises OperatorError when that does not succeed; it may be done again."""
    try:
        with closing(psycopg2.connect(url, options=_SESSION)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for table in tables:
                    with activity.during(f"writing {table} anew"):
                        cursor.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(table)))
                        _forget_statistics_if_empty(cursor, table)
                cursor.execute(f"VACUUM (FULL) {STATISTICS}")
                ended = _end_log(cursor)
                cursor.execute(COPIES)
                return Rewritten(len(tables), ended, tuple(name for (name,) in cursor.fetchall()))
    except psycopg2.Error as error:
        raise OperatorError(
            f"The tables were not all written anew: {first_line(error)}. Do it again with `carrel-cloud erase --rewrite`."
        ) from error


def _forget_statistics_if_empty(cursor: psycopg2.extensions.cursor, table: str) -> None:
    """Of a table without rows ANALYZE keeps the statistics of before. A column that is given its own type anew has none."""
    cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(table)))
    if cursor.fetchone() == (True,):
        return
    cursor.execute(_TEXTS, (table,))
    for column, type_name in cursor.fetchall():
        statement = sql.SQL("ALTER TABLE {} ALTER COLUMN {} TYPE {}")
        cursor.execute(statement.format(sql.Identifier(table), sql.Identifier(column), sql.SQL(type_name)))


def _end_log(cursor: psycopg2.extensions.cursor) -> bool:
    if lacking(cursor):
        return False
    cursor.execute(_LOG_STAYS)
    (stays,) = one_row(cursor)
    cursor.execute("SELECT pg_switch_wal()")
    cursor.execute("CHECKPOINT")
    # A segment goes with the first checkpoint that begins after it.
    cursor.execute("SELECT pg_switch_wal()")
    cursor.execute("CHECKPOINT")
    return not stays
