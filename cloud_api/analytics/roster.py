"""Who is in a class, and how fresh what is known of them is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from cloud_api.database import Cursor
from domain.errors import NotFound

# Students of a class that figures are made for, by name.
STUDENTS_MAX = 500
# Classes that a page lists.
CLASSES_MAX = 1_000


class Roster(NamedTuple):
    """A class and the names of its present students by id, in the order of names."""

    class_id: str
    name: str
    students: Mapping[str, str]


def roster_of(cursor: Cursor, school_id: str, class_id: str) -> Roster:
    """The class with its students. Raises NotFound."""
    cursor.execute("SELECT name FROM classes WHERE school_id = %s AND id = %s AND retired_at_ms IS NULL", (school_id, class_id))
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such class.")
    cursor.execute(
        "SELECT u.id, u.display_name FROM class_members m JOIN users u ON u.school_id = m.school_id AND u.id = m.user_id"
        " WHERE m.school_id = %s AND m.class_id = %s AND m.role = 'student' AND u.retired_at_ms IS NULL"
        " ORDER BY lower(u.display_name), u.id LIMIT %s",
        (school_id, class_id, STUDENTS_MAX),
    )
    return Roster(class_id, row[0], dict(cursor.fetchall()))


class ClassSize(NamedTuple):
    """A class and how many present students it has."""

    class_id: str
    name: str
    students: int


def class_sizes(cursor: Cursor, school_id: str, only: Collection[str] | None = None) -> list[ClassSize]:
    """The school's present classes by name, or those of them in `only`."""
    cursor.execute(
        "SELECT c.id, c.name, (SELECT count(*) FROM class_members m JOIN users u ON u.school_id = m.school_id AND u.id = m.user_id"
        " WHERE m.school_id = c.school_id AND m.class_id = c.id AND m.role = 'student' AND u.retired_at_ms IS NULL)"
        " FROM classes c WHERE c.school_id = %(school)s AND c.retired_at_ms IS NULL AND (%(all)s OR c.id = ANY(%(only)s::uuid[]))"
        " ORDER BY lower(c.name), c.id LIMIT %(most)s",
        {"school": school_id, "all": only is None, "only": sorted(only or ()), "most": CLASSES_MAX},
    )
    return [ClassSize(*row) for row in cursor.fetchall()]


def last_contacts(cursor: Cursor, school_id: str, devices: Iterable[str]) -> dict[str, int]:
    """When each of the devices was last in contact."""
    cursor.execute(
        "SELECT id, last_seen_ms FROM devices WHERE school_id = %s AND id = ANY(%s::uuid[]) AND last_seen_ms IS NOT NULL",
        (school_id, sorted(set(devices))),
    )
    return dict(cursor.fetchall())
