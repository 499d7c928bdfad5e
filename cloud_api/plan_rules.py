"""What the school says about its students' plans: a concept to study, one to leave out, a day off. Rows that only the server writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from psycopg2.extras import execute_values

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.publication import Publication, lock_for_editing, scope_of
from domain.errors import Conflict, InvalidInput, NotFound, Problem
from domain.ids import Id, IdSource
from domain.learning.attempts import DAY_MS
from domain.registry import PLAN_RULES, ScopeKind

# Rules of one student: more would leave nothing to plan.
RULES_MAX = 500
PIN, EXCLUDE, DAY_OFF = PLAN_RULES
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class NewRule:
    """`kind` is one of `PLAN_RULES`. Pins and exclusions name a concept, days off a day; a pin may name both."""

    kind: str
    concept_id: str | None = None
    day: date | None = None


@dataclass(frozen=True, slots=True)
class PlanRule:
    """One rule as a list shows it: `student` is the user name, `created_by` who made it: a name, `operator` for the command line, empty if not known."""

    id: Id
    student: str
    student_id: Id
    student_name: str
    kind: str
    concept: str | None
    concept_id: Id | None
    day: str | None
    created_at_ms: int
    created_by: str


def add_rules(
    cursor: Cursor,
    ids: IdSource,
    school_id: str,
    students: Sequence[str],
    rules: Sequence[NewRule],
    now_ms: int,
    actor: str = audit.OPERATOR,
    class_id: str | None = None,
) -> int:
    """Gives each of the students the rules that they have not got yet; returns how many rows that were. The last change of its transaction.
    With `class_id` they are rules of that class, whose students these are: whoever joins it later gets them, too (`follow_classes`). Whoever has the
    same rule from another class, or alone, has it once more: each goes with its own class.

    Raises InvalidInput for a rule that names neither what it should, NotFound without students, Conflict when a student has too many.
    """
    if not students:
        raise NotFound("There is no student to make a rule for.")
    _check(rules)
    lock_for_editing(cursor, school_id)
    cursor.execute(
        "SELECT student_id, kind, concept_id, day, class_id FROM plan_rules WHERE school_id = %s AND student_id = ANY(%s::uuid[])",
        (school_id, list(students)),
    )
    stored = set(cursor.fetchall())
    wanted = [(rule.kind, rule.concept_id, rule.day.isoformat() if rule.day else None) for rule in rules]
    publication, made = Publication(school_id), []
    for student in students:
        if len({row[1:4] for row in stored if row[0] == student}.union(wanted)) > RULES_MAX:
            raise Conflict(f"A student has at most {RULES_MAX} rules; remove some first.")
        for rule in wanted:
            if (student, *rule, class_id) not in stored:
                fields = dict(zip(("student_id", "kind", "concept_id", "day"), (student, *rule), strict=True))
                made.append(ids.new())
                publication.put("plan_rules", {"id": made[-1], **fields, "created_at_ms": now_ms})
    detail = {"students": len(students), "kinds": sorted({rule.kind for rule in rules}), "added": len(publication)}
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "plan_rules.added", detail=detail)
    publication.write(cursor, now_ms)
    _note_origin(cursor, school_id, [(rule_id, actor, class_id) for rule_id in made])
    return len(made)


def _note_origin(cursor: Cursor, school_id: str, made: Sequence[tuple[str, str, str | None]]) -> None:
    """Who made rules just written, and for which class. No device is told: the columns do not travel."""
    execute_values(
        cursor,
        "UPDATE plan_rules r SET created_by = n.actor, class_id = n.class_id FROM (VALUES %s) AS n (school_id, id, actor, class_id)"
        " WHERE r.school_id = n.school_id AND r.id = n.id",
        [(school_id, *origin) for origin in made],
        template="(%s::uuid, %s::uuid, %s, %s::uuid)",
        page_size=max(1, len(made)),
    )


# Rules of classes that the student has left.
_LEFT = """
SELECT r.id, r.student_id FROM plan_rules r WHERE r.school_id = %(school)s AND r.class_id IS NOT NULL AND NOT EXISTS (
       SELECT FROM class_members m WHERE m.school_id = r.school_id AND m.class_id = r.class_id AND m.user_id = r.student_id AND m.role = 'student')
"""
# Rules of classes that students have joined, but for what they have been told already, and for days off that are over.
_JOINED = """
SELECT DISTINCT ON (m.user_id, r.class_id, r.kind, r.concept_id, r.day) m.user_id, r.kind, r.concept_id, r.day, r.created_by, r.class_id
  FROM class_members m JOIN plan_rules r ON r.school_id = m.school_id AND r.class_id = m.class_id
 WHERE m.school_id = %(school)s AND m.id = ANY(%(members)s::uuid[]) AND m.role = 'student' AND (r.kind <> %(off)s OR r.day >= %(since)s)
   AND NOT EXISTS (SELECT FROM plan_rules own WHERE own.school_id = m.school_id AND own.student_id = m.user_id AND own.class_id = r.class_id
        AND own.kind = r.kind AND own.concept_id IS NOT DISTINCT FROM r.concept_id AND own.day IS NOT DISTINCT FROM r.day)
 ORDER BY m.user_id, r.class_id, r.kind, r.concept_id, r.day, r.created_at_ms, r.id
"""


def follow_classes(cursor: Cursor, ids: IdSource, school_id: str, joined: Sequence[str], now_ms: int) -> range:
    """After a change of who is in which class: rules of a class go from whoever has left it, and come to the new members `joined` (ids of class_members).
    The feed numbers taken.

    The last change of its transaction, which holds the school's edit lock.
    """
    cursor.execute(_LEFT, {"school": school_id})
    publication, origins = Publication(school_id), []
    for rule_id, student_id in cursor.fetchall():
        publication.delete("plan_rules", rule_id, scope_of(ScopeKind.STUDENT, student_id))
    since = date.fromordinal(EPOCH_ORDINAL + now_ms // DAY_MS - 1).isoformat()  # a day ends everywhere half a day after it does in UTC
    cursor.execute(_JOINED, {"school": school_id, "members": list(joined), "off": DAY_OFF, "since": since})
    for student_id, kind, concept_id, day, created_by, class_id in cursor.fetchall():
        rule = {"id": ids.new(), "student_id": student_id, "kind": kind, "concept_id": concept_id, "day": day, "created_at_ms": now_ms}
        publication.put("plan_rules", rule)
        origins.append((rule["id"], created_by, class_id))
    numbers = publication.write(cursor, now_ms)
    _note_origin(cursor, school_id, origins)
    return numbers


def remove_rules(cursor: Cursor, ids: IdSource, school_id: str, rule_ids: Sequence[str], now_ms: int, actor: str = audit.OPERATOR) -> None:
    """Takes rules away. The last change of its transaction. Raises NotFound when one of them is not there."""
    lock_for_editing(cursor, school_id)
    cursor.execute("SELECT id, student_id FROM plan_rules WHERE school_id = %s AND id = ANY(%s::uuid[])", (school_id, list(rule_ids)))
    found = cursor.fetchall()
    if len(found) != len(set(rule_ids)):
        raise NotFound("There is no such rule.")
    publication = Publication(school_id)
    for rule_id, student_id in found:
        publication.delete("plan_rules", rule_id, scope_of(ScopeKind.STUDENT, student_id))
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "plan_rules.removed", detail={"removed": len(found)})
    publication.write(cursor, now_ms)


def remove_alike(
    cursor: Cursor, ids: IdSource, school_id: str, rule_id: str, students: Sequence[str], now_ms: int, actor: str, last_day: str = ""
) -> int:
    """Takes a rule of one of these students away, and those that say the same for the others of them; of a day off with the days up to `last_day`
    (YYYY-MM-DD, empty: none). Returns how many, 0 when it is not there.

    The last change of its transaction.
    """
    lock_for_editing(cursor, school_id)
    cursor.execute(
        "SELECT r.id FROM plan_rules a JOIN plan_rules r ON r.school_id = a.school_id AND r.kind = a.kind"
        " AND r.concept_id IS NOT DISTINCT FROM a.concept_id"
        " AND (r.day IS NOT DISTINCT FROM a.day OR a.kind = %(off)s AND r.day > a.day AND r.day <= %(last)s)"
        " WHERE a.school_id = %(school)s AND a.id = %(rule)s AND a.student_id = ANY(%(students)s::uuid[]) AND r.student_id = ANY(%(students)s::uuid[])",
        {"school": school_id, "rule": rule_id, "students": list(students), "off": DAY_OFF, "last": last_day},
    )
    if alike := [row[0] for row in cursor.fetchall()]:
        remove_rules(cursor, ids, school_id, alike, now_ms, actor)
    return len(alike)


def list_rules(cursor: Cursor, school_id: str, students: Sequence[str]) -> list[PlanRule]:
    """The rules of these students, by student and age."""
    cursor.execute(
        "SELECT r.id, u.username, u.id, u.display_name, r.kind, c.title, c.id, r.day, r.created_at_ms,"
        " coalesce(m.display_name, split_part(r.created_by, ':', 1)) FROM plan_rules r"
        " JOIN users u ON u.school_id = r.school_id AND u.id = r.student_id"
        " LEFT JOIN concepts c ON c.school_id = r.school_id AND c.id = r.concept_id"
        " LEFT JOIN users m ON m.school_id = r.school_id AND r.created_by = 'user:' || replace(m.id::text, '-', '')"
        " WHERE r.school_id = %s AND r.student_id = ANY(%s::uuid[]) ORDER BY u.username, r.created_at_ms, r.id",
        (school_id, list(students)),
    )
    return [PlanRule(*row) for row in cursor.fetchall()]


def students_of(cursor: Cursor, school_id: str, class_id: str) -> list[str]:
    """The students of a class who have not left."""
    cursor.execute(
        "SELECT m.user_id FROM class_members m JOIN users u ON u.school_id = m.school_id AND u.id = m.user_id"
        " WHERE m.school_id = %s AND m.class_id = %s AND m.role = 'student' AND u.retired_at_ms IS NULL ORDER BY m.user_id",
        (school_id, class_id),
    )
    return [row[0] for row in cursor.fetchall()]


def find_concept(cursor: Cursor, school_id: str, name: str) -> Id:
    """The concept in use with that title or external id. Raises NotFound, and Conflict when several bear it."""
    cursor.execute(
        "SELECT id FROM concepts WHERE school_id = %s AND retired_at_ms IS NULL AND (external_id = %s OR lower(title) = lower(%s))",
        (school_id, name.strip(), name.strip()),
    )
    match cursor.fetchall():
        case []:
            raise NotFound("There is no concept of that name in the school.")
        case [(concept_id,)]:
            return Id(concept_id)
    raise Conflict("Several concepts of the school bear that name.")


def _check(rules: Sequence[NewRule]) -> None:
    problems = [
        Problem("rule", "invalid_value", "A day off is a day; a pin or an exclusion names a concept.")
        for rule in rules
        if (rule.day is None or rule.concept_id is not None if rule.kind == DAY_OFF else rule.concept_id is None)
    ]
    if problems:
        raise InvalidInput(problems)
