"""Schools, the tenants of a server, and the server's own identity."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2.errors

from cloud_api.database import Cursor, one_row
from domain.errors import Conflict, InvalidInput, NotFound, Problem
from domain.ids import Id, parse_id
from domain.shown_text import NAME_LENGTH_MAX, is_shown


@dataclass(frozen=True, slots=True)
class School:
    """One school; `head` is the feed number of its latest change."""

    id: Id
    name: str
    head: int
    created_at_ms: int


_SELECT = "SELECT id, name, head, created_at_ms FROM schools"


def create_school(cursor: Cursor, school_id: Id, name: str, now_ms: int) -> School:
    """Adds a school. Raises Conflict when there is one of that name, InvalidInput for a name that cannot be shown, and one that is empty or too long."""
    name = name.strip()
    if not name or not is_shown(name):
        message = f"A school's name has 1 to {NAME_LENGTH_MAX} characters, none of which controls how it is shown."
        raise InvalidInput([Problem("name", "invalid_value", message)])
    try:
        cursor.execute("INSERT INTO schools (id, name, created_at_ms) VALUES (%s, %s, %s)", (school_id, name, now_ms))
    except psycopg2.errors.UniqueViolation as error:
        raise Conflict("There is a school of that name.") from error
    return School(school_id, name, 0, now_ms)


def list_schools(cursor: Cursor) -> list[School]:
    """Every school, by name."""
    cursor.execute(f"{_SELECT} ORDER BY name")
    return [School(*row) for row in cursor.fetchall()]


def find_school(cursor: Cursor, name_or_id: str) -> School:
    """The school of that id (either form) or that very name. Raises NotFound."""
    try:
        cursor.execute(f"{_SELECT} WHERE id = %s", (parse_id(name_or_id),))
    except ValueError:
        cursor.execute(f"{_SELECT} WHERE name = %s", (name_or_id.strip(),))
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such school; `carrel-cloud school list` shows those there are.")
    return School(*row)


def server_epoch(cursor: Cursor) -> Id:
    """The random id of this unbroken life of the database (docs/protocol.md, "Words")."""
    cursor.execute("SELECT epoch FROM server_state")
    return Id(one_row(cursor)[0])
