"""The one connection of a simulated server, with which a world costs PostgreSQL half: nothing of the product's SQL changes.

Statements are prepared when they come for the second time, so that they are parsed and planned once and not in every world. BEGIN, and the COMMIT
of a transaction that only read, travel with the statement after them. Before each statement the server may die, or the statement fail.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.extensions import adapt, cursor

_PREPARABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
_PLACEHOLDER = re.compile(r"%%|%s|%\((\w+)\)s")
_ALONE = frozenset({"BEGIN", "COMMIT"})
# Statements that are remembered; the product has a few hundred.
STATEMENTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that PostgreSQL knows by `name`; `keys` are the names of its parameters in order, or numbers where they have none."""

    name: str
    keys: tuple[str | int, ...]

    def call(self, parameters: Any, connection: Any) -> bytes:
        """What executes it."""
        if not self.keys:
            return f"EXECUTE {self.name}".encode()
        values = b", ".join([_literal(parameters[key], connection) for key in self.keys])
        return f"EXECUTE {self.name} (".encode() + values + b")"


@dataclass
class Session:
    """What is known of one connection: its prepared statements, and what waits to be sent with the next statement.

    `spend` is called before each statement, and may raise.
    """

    spend: Callable[[], None]
    reads_only: bool = False
    held: bytes = b""
    _seen: dict[str, Prepared | None] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def take_held(self) -> bytes:
        """What is to be sent before the next statement."""
        held, self.held = self.held, b""
        return held

    def prepared(self, query: str, parameters: Any, own: cursor) -> Prepared | None:
        """The statement, if it can be executed by name; it is prepared when it comes for the second time."""
        if query not in self._seen:
            if len(self._seen) < STATEMENTS_MAX and query.startswith(_PREPARABLE) and ";" not in query:
                self._seen[query] = None
            return None
        known = self._seen[query]
        if known is None and len(self._seen) < STATEMENTS_MAX:
            known = self._seen[query] = self._prepare(query, parameters, own)
        return known if known and known.name else None

    def _prepare(self, query: str, parameters: Any, own: cursor) -> Prepared:
        """One without a name where PostgreSQL cannot tell the types of the parameters."""
        text, keys = _numbered(query, parameters)
        name = f"s{next(self._numbers)}"
        send = super(MortalCursor, own).execute  # type: ignore[misc]
        send(self.take_held() + b"SAVEPOINT prepare")
        try:
            send(f"PREPARE {name} AS {text}")
        except psycopg2.ProgrammingError:
            send("ROLLBACK TO SAVEPOINT prepare")
            return Prepared("", ())
        finally:
            send("RELEASE SAVEPOINT prepare")
        return Prepared(name, keys)


class MortalCursor(cursor):
    """See the module. Each connection has a class of its own, with its `session`."""

    session: Session
    _told: str | None = None

    def execute(self, query: Any, parameters: Any = None) -> None:
        session = self.session
        session.spend()
        if isinstance(query, str):
            if query.startswith("BEGIN"):
                session.reads_only = "READ ONLY" in query
                session.held += self.mogrify(query, parameters) + b";"
                return
            if query == "COMMIT" and session.reads_only:
                session.held += b"COMMIT;"
                self._told = "COMMIT"
                return
            if prepared := session.prepared(query, parameters, self):
                super().execute(session.take_held() + prepared.call(parameters, self.connection))
                return
        held = session.take_held()
        super().execute(held + self.mogrify(query, parameters) if held else query, None if held else parameters)

    def copy_expert(self, *arguments: Any) -> None:
        self.session.spend()
        if held := self.session.take_held():
            super().execute(held)
        super().copy_expert(*arguments)

    @property
    def statusmessage(self) -> str | None:
        return self._told or super().statusmessage


def _numbered(query: str, parameters: Any) -> tuple[str, tuple[str | int, ...]]:
    """A statement with PostgreSQL's own placeholders, and the key of each."""
    keys: list[str | int] = []
    named = isinstance(parameters, Mapping)

    def number(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        key: str | int = found[1] if named else len(keys)
        if key not in keys:
            keys.append(key)
        return f"${keys.index(key) + 1}"

    return (_PLACEHOLDER.sub(number, query) if parameters else query), tuple(keys)


def _literal(value: Any, connection: Any) -> bytes:
    """A value as SQL. A list is written as a literal, which takes whatever type the parameter has; ARRAY[…] would have one of its own."""
    if isinstance(value, str) and "\0" not in value:  # these two are by far the most frequent
        return b"'%b'" % value.replace("'", "''").encode()
    if type(value) is int:
        return b"%d" % value
    if isinstance(value, list):
        return b"'{%b}'" % b",".join(map(_element, value))
    adapted = adapt(value)
    if hasattr(adapted, "prepare"):
        adapted.prepare(connection)
    return bytes(adapted.getquoted())


def _element(value: Any) -> bytes:
    if value is None:
        return b"NULL"
    if type(value) is int:
        return b"%d" % value
    text = str(value)
    if "\0" in text:
        raise ValueError("PostgreSQL's text has no character of number 0")  # as the driver does
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''")
    return f'"{text}"'.encode()


def session_class(session: Session) -> type[MortalCursor]:
    """The cursors of one connection."""
    return type("Cursor", (MortalCursor,), {"session": session})


__all__: Sequence[str] = ("MortalCursor", "Session", "session_class")
