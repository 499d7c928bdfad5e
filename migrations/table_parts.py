"""What hangs on a PostgreSQL table besides its columns and checks, as statements that give the same to another table.

Indexes, primary key and unique constraints; triggers; owner, grants, row-level security and its policies. Not among them, because no table
of Carrel's has any: extended statistics, rules, publications, a replica identity. Foreign keys are told apart, so that they can be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

# Runs a statement with its parameters and returns a cursor.
Execute = Callable[..., Any]


class Part(NamedTuple):
    """A named part, and the statement that makes it on a table of the name that its table has now."""

    name: str
    statement: str


def indexes(execute: Execute, table: str) -> list[Part]:
    """Indexes, and the constraints that are made with one, sorted by name."""
    return _parts(
        execute,
        "SELECT i.relname, CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.oid)"
        " ELSE format('ALTER TABLE %%I ADD CONSTRAINT %%I %%s', t.relname, c.conname, pg_get_constraintdef(c.oid)) END FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid"
        " LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u')"
        " WHERE t.oid = to_regclass(%s) ORDER BY 1",
        table,
    )


def triggers(execute: Execute, table: str) -> list[Part]:
    """Triggers but for those that PostgreSQL made itself, sorted by name, which is the order in which they fire."""
    return _parts(
        execute,
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal ORDER BY 1",
        table,
    )


def foreign_keys(execute: Execute, table: str) -> list[str]:
    """The names of foreign keys from or to the table, sorted."""
    query = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND to_regclass(%s) IN (conrelid, confrelid) ORDER BY 1"
    return [name for (name,) in execute(query, table).fetchall()]


def guard(execute: Execute, table: str, to: str) -> list[str]:
    """Statements that give the table `to` the owner of `table`, and row-level security if that has it: without a policy, nobody but the
    owner gets at a row of `to` by its own name.
    """
    row = execute(
        "SELECT format('ALTER TABLE %%I OWNER TO %%I', %s, pg_get_userbyid(relowner)), relrowsecurity, relforcerowsecurity"
        " FROM pg_class WHERE oid = to_regclass(%s)",
        to,
        table,
    ).fetchone()
    owner, secured, forced = row
    clauses = [clause for clause, wanted in (("ENABLE", secured), ("FORCE", forced)) if wanted]
    return [owner, *(f"ALTER TABLE {to} {clause} ROW LEVEL SECURITY" for clause in clauses)]


def permissions(execute: Execute, table: str) -> list[str]:
    """Statements that grant what is granted on the table and its columns to others than its owner, and make its policies."""
    grants = execute(
        "SELECT format('GRANT %%s%%s ON %%I TO %%s%%s', a.privilege_type, g.columns, c.relname,"
        " CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,"
        " CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
        " FROM pg_class c CROSS JOIN LATERAL (SELECT '' AS columns, c.relacl AS acl UNION ALL"
        " SELECT format(' (%%I)', attname), attacl FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped) AS g"
        " CROSS JOIN LATERAL aclexplode(g.acl) AS a WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner ORDER BY 1",
        table,
    ).fetchall()
    policies = execute(
        "SELECT format('CREATE POLICY %%I ON %%I AS %%s FOR %%s TO %%s%%s%%s', polname, c.relname,"
        " CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,"
        " CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,"
        " (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ') FROM unnest(polroles) AS role),"
        " ' USING (' || pg_get_expr(polqual, polrelid) || ')', ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')"
        " FROM pg_policy JOIN pg_class c ON c.oid = polrelid WHERE polrelid = to_regclass(%s) ORDER BY polname",
        table,
    ).fetchall()
    return [statement for (statement,) in [*grants, *policies]]


def _parts(execute: Execute, query: str, table: str) -> list[Part]:
    return [Part(name, statement) for name, statement in execute(query, table).fetchall()]
