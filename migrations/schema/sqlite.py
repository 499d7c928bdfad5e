"""The schema of a SQLite database, from its pragmas and, for what they do not tell, from the stored SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from migrations.history import HISTORY_TABLE
from migrations.schema.description import Column, Execute, Schema, Table
from migrations.schema.sqltext import bracketed, canonical, column_list, joined, quoted, split_at_commas, tokens

# Clauses that no pragma tells; the description names them, so that none is lost unseen.
_UNKNOWN = ("CONFLICT", "DEFERRABLE")
_CONSTRAINT_WORDS = ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN")


def read_schema(execute: Execute) -> Schema:
    """The schema of the SQLite database in which `execute(sql, parameters)` runs, without the history of migrations."""
    rows = execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
    of_table: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for kind, name, table, sql in rows:
        of_table[kind, table][name] = canonical(sql)
    tables = {
        name: _table(execute, name, sql, of_table["index", name], of_table["trigger", name])
        for kind, name, _, sql in rows
        if kind == "table" and name != HISTORY_TABLE and not name.startswith("sqlite_")
    }
    return Schema(tables, {f"view {name}": canonical(sql) for kind, name, _, sql in rows if kind == "view"})


def _table(execute: Execute, name: str, sql: str, indexes: dict[str, str], triggers: dict[str, str]) -> Table:
    parts = tokens(sql)
    body = bracketed(parts, parts.index("("))
    options = joined(parts[parts.index("(") + len(body) :])
    items = split_at_commas(body[1:-1])
    columns = {column.name: column for column in _columns(execute, name, items, strict="STRICT" in options)}
    constraints = [*_keys(execute, name, body), *_foreign_keys(execute, name), *_checks(items)]
    unknown = " ".join(word for word in body if word in _UNKNOWN)
    return Table(name, columns, {text: text for text in constraints}, indexes, triggers, options=_ordered(options), unknown=unknown)


def _ordered(options: str) -> str:
    """STRICT and WITHOUT ROWID in one order."""
    return ", ".join(sorted(option.strip() for option in options.split(",") if option))


def _pragma(execute: Execute, pragma: str, name: str) -> list[Any]:
    """The rows of one of SQLite's table-valued pragmas."""
    rows: list[Any] = execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall()
    return rows


def _columns(execute: Execute, table: str, items: Sequence[Sequence[str]], *, strict: bool) -> Iterator[Column]:
    texts = {item[0]: item for item in items if item[0] not in _CONSTRAINT_WORDS}
    rows = _pragma(execute, "table_xinfo", table)
    keys = [(name, kind) for _, name, kind, _, _, key, _ in rows if key]
    is_rowid = len(keys) == 1 and keys[0][1].upper() == "INTEGER"
    for _, name, kind, not_null, default, key, _ in rows:
        # SQLite alone lets the primary key of a table that is neither STRICT nor WITHOUT ROWID be null.
        never_null = bool(not_null) or (bool(key) and (strict or is_rowid))
        yield Column(name, kind.upper(), not never_null, _default(default), _extra(texts.get(quoted(name), ())))


def _default(text: str | None) -> str | None:
    """SQLite tells a default that is worked out without the brackets that it must be written in."""
    return f"({text})" if text is not None and "(" in tokens(text) else text


def _extra(parts: Sequence[str]) -> str:
    """COLLATE and GENERATED clauses of a column."""
    found = []
    for position, word in enumerate(parts):
        if word == "COLLATE":
            found.append(f"COLLATE {parts[position + 1]}")
        if word == "AS" and "CAST" not in parts[:position]:
            expression = bracketed(parts, position + 1)
            stored = "STORED" if "STORED" in parts else "VIRTUAL"
            found.append(f"GENERATED ALWAYS AS {joined(expression)} {stored}")
    return " ".join(found)


def _keys(execute: Execute, table: str, body: Sequence[str]) -> Iterator[str]:
    keys = sorted((key, name) for _, name, _, _, _, key, _ in _pragma(execute, "table_xinfo", table) if key)
    if keys:
        columns = column_list(name for _, name in keys)
        yield f"PRIMARY KEY {columns[:-1]} AUTOINCREMENT)" if "AUTOINCREMENT" in body else f"PRIMARY KEY {columns}"
    for _, index, _, origin, _ in reversed(_pragma(execute, "index_list", table)):
        if origin == "u":
            yield f"UNIQUE {column_list(name for _, _, name in _pragma(execute, 'index_info', index))}"


def _foreign_keys(execute: Execute, table: str) -> Iterator[str]:
    keys: dict[int, list[Any]] = defaultdict(list)
    for row in _pragma(execute, "foreign_key_list", table):
        keys[row[0]].append(row)
    for rows in reversed(keys.values()):
        _, _, parent, _, _, on_update, on_delete, _ = rows[0]
        # Without columns a reference is to the primary key.
        targets = column_list(row[4] for row in rows) if rows[0][4] else ""
        text = f"FOREIGN KEY {column_list(row[3] for row in rows)} REFERENCES {quoted(parent)} {targets}".rstrip()
        text += "" if on_update == "NO ACTION" else f" ON UPDATE {on_update}"
        yield text + ("" if on_delete == "NO ACTION" else f" ON DELETE {on_delete}")


def _checks(items: Sequence[Sequence[str]]) -> Iterator[str]:
    for item in items:
        for position, word in enumerate(item):
            if word == "CHECK":
                yield joined(["CHECK", *bracketed(item, position + 1)])
