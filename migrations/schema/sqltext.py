"""SQL text in one canonical form, so that two spellings of one definition compare equal and can be shown to a person.

Quotes around harmless names, comments and IF NOT EXISTS go, keywords are in capitals, white space is regular. Nothing else changes: a text that
an engine accepts means the same before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<text>[xX]?'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\])
      | (?P<word>[A-Za-z_]\w*|\d[\w.]*)
      | (?P<sign><=|>=|<>|!=|==|\|\||->>|->|<<|>>|.)""",
    re.VERBOSE | re.DOTALL,
)
_HARMLESS = re.compile(r"[a-z_][a-z0-9_]*")

# Words that SQLite or PostgreSQL take for something else than a name; in capitals here and in the canonical form.
KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """
    ADD AFTER ALL ALTER ALWAYS ANALYZE AND ANY ARRAY AS ASC AUTOINCREMENT BEFORE BEGIN BETWEEN BOTH BY CASCADE CASE CAST CHECK COLLATE COLUMN
    COMMIT CONFLICT CONSTRAINT CREATE CROSS CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP DEFAULT DEFERRABLE DEFERRED DELETE DESC DISTINCT
    DO DROP EACH ELSE END ESCAPE EXCEPT EXECUTE EXISTS FALSE FETCH FOR FOREIGN FROM FULL GENERATED GLOB GRANT GROUP HAVING IF IGNORE IN INDEX
    INITIALLY INNER INSERT INSTEAD INTERSECT INTO IS ISNULL JOIN LATERAL LEADING LEFT LIKE LIMIT MATCH NATURAL NO NOT NOTNULL NULL NULLS OF OFFSET
    ON ONLY OR ORDER OUTER OVER PARTITION PRIMARY RAISE REFERENCES REGEXP RENAME REPLACE RESTRICT RETURNING RIGHT ROLLBACK ROW SELECT SET SOME
    STORED STRICT TABLE THEN TO TRAILING TRANSACTION TRIGGER TRUE UNION UNIQUE UPDATE USER USING VALUES VIEW VIRTUAL WHEN WHERE WINDOW WITH
    WITHOUT
    """,
    )
)


def quoted(name: str) -> str:
    """A name as it is written in SQL: bare where that is safe, else in double quotes."""
    if _HARMLESS.fullmatch(name) and name.upper() not in KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def column_list(names: Iterable[str]) -> str:
    """`(a, b)`."""
    return f"({', '.join(quoted(name) for name in names)})"


def tokens(sql: str) -> list[str]:
    """The tokens of a text in canonical spelling, without white space and comments."""
    return list(_tokens(sql))


def _tokens(sql: str) -> Iterator[str]:
    for match in _TOKEN.finditer(sql):
        token = match[0]
        if match.lastgroup == "quoted":
            yield quoted(token[1:-1].replace('""', '"'))
        elif match.lastgroup == "word":
            yield token.upper() if token.upper() in KEYWORDS else token
        elif match.lastgroup != "blank":
            yield token


def joined(parts: Sequence[str]) -> str:
    """Tokens as one readable line."""
    line = ""
    before = ""
    depth = 0
    for token in parts:
        glued = not line or token in (",", ")", ".", ";") or before in ("(", ".")
        # Inside brackets a word before a bracket is a function; outside it is a table: lower(name), but users (name).
        call = token == "(" and depth > 0 and before not in KEYWORDS and bool(re.fullmatch(r'[\w"]+', before))
        line += token if glued or call else f" {token}"
        depth += (token == "(") - (token == ")")
        before = token
    return line


def canonical(sql: str) -> str:
    """A CREATE INDEX, CREATE TRIGGER or an expression in canonical form, on one line."""
    parts = tokens(sql.strip().rstrip(";"))
    for start in range(len(parts) - 2):
        if parts[start : start + 3] == ["IF", "NOT", "EXISTS"]:
            del parts[start : start + 3]
            break
    if parts[:2] in (["CREATE", "INDEX"], ["CREATE", "UNIQUE"]) and "WHERE" in parts:
        where = parts.index("WHERE") + 1
        parts[where:] = unbracketed(parts[where:])
    return joined(parts)


def unbracketed(parts: Sequence[str]) -> list[str]:
    """Tokens of an expression without brackets around the whole of it."""
    inner = list(parts)
    while inner[:1] == ["("] and _closing(inner, 0) == len(inner) - 1:
        inner = inner[1:-1]
    return inner


def bracketed(parts: Sequence[str], start: int) -> list[str]:
    """The tokens from the opening bracket at `start` to its closing one, both included."""
    return list(parts[start : _closing(parts, start) + 1])


def _closing(parts: Sequence[str], start: int) -> int:
    depth = 0
    for position in range(start, len(parts)):
        depth += (parts[position] == "(") - (parts[position] == ")")
        if depth == 0:
            return position
    return len(parts) - 1


def split_at_commas(parts: Sequence[str]) -> list[list[str]]:
    """The items of a list, `(` and `)` around it left out before: split at the commas that stand in no inner bracket."""
    items: list[list[str]] = [[]]
    depth = 0
    for token in parts:
        depth += (token == "(") - (token == ")")
        if token == "," and depth == 0:
            items.append([])
        else:
            items[-1].append(token)
    return items
