"""The rights by which erasing ends PostgreSQL's write-ahead log (cloud_api/erasure/rewriting.py).

The one on the function is a database's own: whatever takes a database's place begins without it, and only a superuser can give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress

import psycopg2
from psycopg2 import sql

from cloud_api.database import Cursor, one_row

# Those who may end the log because somebody gave them the right; superusers need none.
_HOLDERS = """
SELECT r.rolname::text FROM pg_proc p CROSS JOIN aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
 WHERE p.oid = 'pg_switch_wal()'::regprocedure AND a.privilege_type = 'EXECUTE' AND NOT r.rolsuper ORDER BY 1
"""
_OWN = """
SELECT current_user::text, rolsuper OR pg_has_role(current_user, 'pg_checkpoint', 'MEMBER'), has_function_privilege('pg_switch_wal()', 'EXECUTE')
  FROM pg_roles WHERE rolname = current_user
"""
_END_LOG, _CHECKPOINT = "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {}", "GRANT pg_checkpoint TO {}"


def lacking(cursor: Cursor) -> list[str]:
    """What a superuser has to run in this database before its present user may end the log; nothing where that user may."""
    cursor.execute(_OWN)
    user, checkpoint, end_log = one_row(cursor)
    missing = [statement for statement, held in ((_CHECKPOINT, checkpoint), (_END_LOG, end_log)) if not held]
    return [_text(statement, user, cursor) for statement in missing]


def holders(url: str) -> list[str]:
    """Who was given the right to end the log in a database; nobody where there is no such database, or none that can be asked."""
    try:
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            return _holders(cursor)
    except psycopg2.Error:
        return []


def give(url: str, users: Sequence[str]) -> list[str]:
    """Gives users that right in the database at `url`; returns what a superuser has to run there, because the user of `url` may not."""
    if not users:
        return []
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for user in users:
            with suppress(psycopg2.Error):  # who may not give a right is refused, or only warned
                cursor.execute(sql.SQL(_END_LOG).format(sql.Identifier(user)))
        have = _holders(cursor)
        return [_text(_END_LOG, user, cursor) for user in users if user not in have]


def _holders(cursor: Cursor) -> list[str]:
    cursor.execute(_HOLDERS)
    return [user for (user,) in cursor.fetchall()]


def _text(statement: str, user: str, cursor: Cursor) -> str:
    return f"{sql.SQL(statement).format(sql.Identifier(user)).as_string(cursor)};"
