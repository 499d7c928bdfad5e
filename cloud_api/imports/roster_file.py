"""A roster as one CSV file: username, display_name, role; class, external_id.

A person in several classes has several classes in the cell, joined by `;`, or several lines that differ in the class alone. Other
columns are ignored, above all passwords: they are never kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_api.imports.csv_table import Line, Problems, read_lines
from cloud_api.people import CLASS_ROLES, CLASSES, USERS, name_problems


@dataclass(frozen=True, slots=True)
class RosterPerson:
    """One person. `fields` are registry columns of users (without id); `classes` are names, in the order of the file."""

    where: str
    fields: dict[str, Any]
    classes: tuple[str, ...]

    @property
    def key(self) -> str:
        """What makes lines the same person: the external id, else the user name."""
        return f"id:{self.fields['external_id']}" if self.fields["external_id"] else f"name:{self.fields['username'].lower()}"


def read_roster(path: Path, problems: Problems) -> list[RosterPerson]:
    """The people of a roster, problems of form noted."""
    people: dict[str, RosterPerson] = {}
    usernames: dict[str, RosterPerson] = {}
    for line in read_lines(path, ("username", "display_name", "role"), ("class", "external_id"), problems):
        person = _person(line, problems)
        if (earlier := people.get(person.key)) is not None:
            person = _with_more_classes(earlier, person, problems)
        people[person.key] = person
        namesake = usernames.setdefault(person.fields["username"].lower(), person)
        if namesake.key != person.key:
            problems.add(person.where, "duplicate_username", f"the user name was given to somebody else before, at {namesake.where}")
    return list(people.values())


def _person(line: Line, problems: Problems) -> RosterPerson:
    fields = {
        "role": line["role"].lower(),
        "username": line["username"],
        "display_name": line["display_name"],
        "external_id": line["external_id"] or None,
    }
    for column, problem in name_problems(USERS, {name: value for name, value in fields.items() if value}):
        problems.add(line.where, "invalid_value", f"{column} {problem}")
    classes = line.items("class")
    for name in classes:
        for _, problem in name_problems(CLASSES, {"name": name}):
            problems.add(line.where, "invalid_value", f"class {problem}")
    if classes and fields["role"] == "admin":
        problems.add(line.where, "invalid_value", f"an admin is in no class: only {' and '.join(CLASS_ROLES)} are")
    return RosterPerson(line.where, fields, tuple(classes))


def _with_more_classes(earlier: RosterPerson, again: RosterPerson, problems: Problems) -> RosterPerson:
    if again.fields != earlier.fields:
        problems.add(again.where, "contradiction", f"differs from what was given of the same person at {earlier.where}")
    return RosterPerson(earlier.where, earlier.fields, tuple(dict.fromkeys(earlier.classes + again.classes)))
