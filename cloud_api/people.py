"""Users, classes, and who is a member of which class: read, created by hand, and taken out of a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import execute_values

from cloud_api.database import Cursor
from cloud_api.plan_rules import follow_classes
from cloud_api.publication import Publication, Row, lock_for_editing, read_rows, row_problems, scope_of
from domain.errors import Conflict, InvalidInput, NotFound, Problem
from domain.ids import Id, IdSource
from domain.registry import TABLES, ScopeKind, Table
from domain.shown_text import is_shown

USERS, CLASSES, MEMBERS = TABLES["users"], TABLES["classes"], TABLES["class_members"]
# Roles that a member of a class may have; an administrator belongs to none.
CLASS_ROLES = ("student", "teacher")


@dataclass(frozen=True, slots=True)
class User:
    """One person of a school as a list shows it."""

    id: Id
    role: str
    username: str
    display_name: str
    external_id: str | None
    retired_at_ms: int | None


def list_users(cursor: Cursor, school_id: str) -> list[User]:
    """Everybody of a school, by user name."""
    users = [_user(row) for row in read_rows(cursor, USERS, school_id).values()]
    return sorted(users, key=lambda user: user.username.lower())


def find_user(cursor: Cursor, school_id: str, username: str) -> User:
    """The user of that name who has not left; case does not count. Raises NotFound."""
    cursor.execute(
        f"SELECT {', '.join(USERS.column_names)} FROM users WHERE school_id = %s AND lower(username) = lower(%s) AND retired_at_ms IS NULL",
        (school_id, username.strip()),
    )
    if (values := cursor.fetchone()) is None:
        raise NotFound("There is no user of that name in the school.")
    return _user(dict(zip(USERS.column_names, values, strict=True)))


def find_students(cursor: Cursor, school_id: str, usernames: Sequence[str]) -> dict[str, Id]:
    """User name as it is given -> id, of those of these names who are students and have not left; case does not count."""
    cursor.execute(
        "SELECT n.name, u.id FROM unnest(%s::text[]) AS n(name) JOIN users u ON u.school_id = %s AND lower(u.username) = lower(n.name)"
        " WHERE u.role = 'student' AND u.retired_at_ms IS NULL",
        (list(usernames), school_id),
    )
    return {name: Id(id_) for name, id_ in cursor.fetchall()}


def display_name(cursor: Cursor, school_id: str, user_id: str) -> str | None:
    """What a user is called, also one who has left; None where there is nobody of that id."""
    cursor.execute("SELECT display_name FROM users WHERE school_id = %s AND id = %s", (school_id, user_id))
    row = cursor.fetchone()
    return str(row[0]) if row else None


def find_class(cursor: Cursor, school_id: str, name: str) -> Id:
    """The id of the class of that very name. Raises NotFound, and Conflict when several bear it."""
    cursor.execute("SELECT id FROM classes WHERE school_id = %s AND name = %s AND retired_at_ms IS NULL", (school_id, name.strip()))
    match cursor.fetchall():
        case []:
            raise NotFound("There is no class of that name in the school.")
        case [(class_id,)]:
            return Id(class_id)
    raise Conflict("Several classes of the school bear that name.")


def list_classes(cursor: Cursor, school_id: str) -> list[tuple[Id, str]]:
    """(id, name) of every class that is not retired, by name."""
    cursor.execute("SELECT id, name FROM classes WHERE school_id = %s AND retired_at_ms IS NULL ORDER BY lower(name), id", (school_id,))
    return cursor.fetchall()


def create_user(
    cursor: Cursor,
    ids: IdSource,
    school_id: str,
    username: str,
    display_name: str,
    role: str,
    class_names: Sequence[str],
    now_ms: int,
) -> User:
    """Adds a user, and makes it a member of existing classes. Must be the last change of its transaction.

    Raises InvalidInput with every problem, Conflict when the user name is taken, NotFound for an unknown class.
    """
    lock_for_editing(cursor, school_id)
    row: Row = {"id": ids.new(), "role": role, "username": username.strip(), "display_name": display_name.strip()}
    row |= {"external_id": None, "retired_at_ms": None}
    _check_user(cursor, school_id, row, class_names)
    publication = Publication(school_id)
    publication.put("users", row)
    joined = []
    for class_id in dict.fromkeys(find_class(cursor, school_id, name) for name in class_names):
        joined.append(ids.new())
        publication.put("class_members", {"id": joined[-1], "class_id": class_id, "user_id": row["id"], "role": role})
    publication.write(cursor, now_ms)
    follow_classes(cursor, ids, school_id, joined, now_ms)
    return _user(row)


def end_memberships(cursor: Cursor, publication: Publication, school_id: str, members: Iterable[Row], now_ms: int) -> None:
    """Takes members (rows of class_members) out of their classes.

    The history is written here, because operations that a class's device wrote before are still judged by it; the deletion and
    its tombstone are left to `publication`, which must be written in the same transaction.
    """
    ended = list(members)
    for member in ended:
        publication.delete("class_members", member["id"], scope_of(ScopeKind.CLASS, member["class_id"]))
    if ended:
        execute_values(
            cursor,
            "INSERT INTO membership_history (school_id, class_id, user_id, ended_at_ms) VALUES %s",
            [(school_id, member["class_id"], member["user_id"], now_ms) for member in ended],
            page_size=len(ended),
        )


def name_problems(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same as `row_problems`, and what in a name a terminal or a page would obey rather than show."""
    yield from row_problems(table, row)
    for column in ("username", "display_name", "name"):
        if column in row and not is_shown(row[column], len(row[column])):
            yield column, "must be without control characters, line ends and marks of direction"


def _check_user(cursor: Cursor, school_id: str, row: Row, class_names: Sequence[str]) -> None:
    problems = [Problem(column, "invalid_value", f"{column} {problem}") for column, problem in name_problems(USERS, row)]
    problems += [Problem(name, "invalid_value", f"{name} must be given") for name in ("username", "display_name") if not row[name]]
    if class_names and row["role"] not in CLASS_ROLES:
        problems.append(Problem("class", "invalid_value", "Only students and teachers are members of a class."))
    if problems:
        raise InvalidInput(problems)
    cursor.execute("SELECT 1 FROM users WHERE school_id = %s AND lower(username) = lower(%s)", (school_id, row["username"]))
    if cursor.fetchone():
        raise Conflict("That user name is taken.")


def _user(row: Row) -> User:
    return User(row["id"], row["role"], row["username"], row["display_name"], row["external_id"], row["retired_at_ms"])
