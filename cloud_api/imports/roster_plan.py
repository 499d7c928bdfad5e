"""What importing a roster would change in a school: who is whom, which classes there are, and who is in them."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_api.imports.csv_table import Problems
from cloud_api.imports.edit import Edit
from cloud_api.imports.roster_file import RosterPerson
from cloud_api.publication import Row

# So many may always leave; of more than these, no more than half unless somebody says so: a roster that broke off looks like a school that is empty.
LEAVERS_MIN = 20


def plan_roster(edit: Edit, people: Sequence[RosterPerson], problems: Problems, *, retire: bool, many_leave: bool = False) -> None:
    """Puts the people of a roster, their classes and memberships into `edit`.

    A person is found by external id, else by user name; one made by hand under that name is taken over. `retire` retires people and
    classes with an external id that are not in the roster, and ends the memberships of such people, of such classes, and those
    that the roster's classes no longer show. Who was made by hand and is not in the roster is left alone. That more than half of the people leave is a
    problem, unless `many_leave`.
    """
    plan = _RosterPlan(edit, problems)
    for person in people:
        plan.place(person)
    if retire:
        plan.retire_vanished(many_leave)


class _RosterPlan:
    def __init__(self, edit: Edit, problems: Problems) -> None:
        self._edit = edit
        self._problems = problems
        self._users = edit.by_external_id("users")
        self._usernames = {row["username"].lower(): row for row in edit.stored("users").values()}
        self._class_rows = _classes_by_name(edit)
        self._members = {(row["class_id"], row["user_id"]): row for row in edit.stored("class_members").values()}
        self._placed_users: dict[str, str] = {}  # user id -> where in the file
        self._placed_classes: dict[str, str] = {}  # name -> class id
        self._placed_members: set[tuple[str, str]] = set()

    def place(self, person: RosterPerson) -> None:
        """The person's row, classes and memberships."""
        stored = self._stored_user(person)
        user_id = self._edit.id_for(stored)
        if (other := self._placed_users.setdefault(user_id, person.where)) != person.where:
            self._problems.add(person.where, "duplicate_id", f"is the same user of the school as {other}")
            return
        external_id = person.fields["external_id"] or (stored and stored["external_id"])
        self._edit.put("users", {"id": user_id, **person.fields, "external_id": external_id, "retired_at_ms": None})
        for name in person.classes:
            self._place_in_class(user_id, person.fields["role"], self._class_id(name))

    def retire_vanished(self, many_leave: bool) -> None:
        """What has an external id and was not placed."""
        users = self._edit.stored("users")
        present = [row for row in users.values() if row["external_id"] and row["retired_at_ms"] is None]
        leaving = [row for row in present if row["id"] not in self._placed_users]
        if len(leaving) > max(LEAVERS_MIN, len(present) // 2) and not many_leave:
            message = (
                f"does not name {len(leaving)} of the school's {len(present)} people, who would leave it: --many-leave says that this is so"
            )
            self._problems.add("roster", "many_leave", message)
        for row in leaving:
            self._edit.retire("users", row)
        classes = set(self._placed_classes.values())
        for row in self._edit.stored("classes").values():
            if row["external_id"] and row["id"] not in classes and row["retired_at_ms"] is None:
                self._edit.retire("classes", row)
        for pair, member in self._members.items():
            by_roster = users[member["user_id"]]["external_id"] or member["user_id"] in self._placed_users
            if by_roster and pair not in self._placed_members:
                self._edit.end_membership(member)

    def _stored_user(self, person: RosterPerson) -> Row | None:
        external_id = person.fields["external_id"]
        known = self._users.get(external_id) if external_id else None
        namesake = self._usernames.get(person.fields["username"].lower())
        if namesake is None or known is namesake:
            return known
        if known is None and not (external_id and namesake["external_id"]):
            return namesake
        self._problems.add(person.where, "username_taken", "the user name belongs to somebody else in the school")
        return known

    def _class_id(self, name: str) -> str:
        if name not in self._placed_classes:
            stored = self._class_rows.get(name)
            class_id = self._edit.id_for(stored)
            external_id = (stored and stored["external_id"]) or name
            self._edit.put("classes", {"id": class_id, "name": name, "external_id": external_id, "retired_at_ms": None})
            self._placed_classes[name] = class_id
        return self._placed_classes[name]

    def _place_in_class(self, user_id: str, role: str, class_id: str) -> None:
        member = self._members.get((class_id, user_id))
        row = {"id": self._edit.id_for(member), "class_id": class_id, "user_id": user_id, "role": role}
        self._edit.put("class_members", row)
        self._placed_members.add((class_id, user_id))


def _classes_by_name(edit: Edit) -> dict[str, Row]:
    """The class that a name means: one in use before one that was retired."""
    rows = sorted(edit.stored("classes").values(), key=lambda row: row["retired_at_ms"] is None)
    return {row["name"]: row for row in rows}
