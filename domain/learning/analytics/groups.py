"""Groups for a lesson: students who work on something and lack the same prerequisite of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from domain.learning.analytics.heat_map import Cell, topic_cell
from domain.learning.levels import Level

GROUP_STUDENTS_MIN = 2
# A topic is there when so large a share of its concepts is shown as familiar or better.
MET_SHARE_MIN = 0.5
_KNOWN = (Level.FAMILIAR, Level.PROFICIENT, Level.MASTERED)
_DONE = (Level.PROFICIENT, Level.MASTERED)


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A student of a group: concepts of the prerequisite at familiar or better, and those with any answer."""

    student_id: str
    known: int
    met: int


@dataclass(frozen=True, slots=True)
class Group:
    """Students who lack `topic_id`, which has `concepts` concepts, and work on topics that build on it (`waiting`)."""

    topic_id: str
    concepts: int
    waiting: tuple[str, ...]
    members: tuple[GroupMember, ...]


def groups(
    students: Mapping[str, Mapping[str, Cell]],
    concepts_of: Mapping[str, Collection[str]],
    prerequisites: Mapping[str, Collection[str]],
) -> list[Group]:
    """The groups of a class, largest first, else in the order of `concepts_of`, as is `waiting`. A student may be in several.

    `students` has a student's cells by concept, `concepts_of` a topic's concepts (those of its parts included), `prerequisites` what a topic needs.
    """
    members: dict[str, dict[str, GroupMember]] = {}
    waiting: dict[str, set[str]] = {}
    for student, cells in students.items():
        for topic, needed in prerequisites.items():
            if not _works_on(cells, concepts_of.get(topic, ())):
                continue
            for prerequisite in needed:
                if (member := _lacking(student, cells, concepts_of.get(prerequisite, ()))) is not None:
                    members.setdefault(prerequisite, {})[student] = member
                    waiting.setdefault(prerequisite, set()).add(topic)
    found = [
        Group(topic, len(concepts_of[topic]), tuple(t for t in concepts_of if t in waiting[topic]), tuple(members[topic].values()))
        for topic in concepts_of
        if len(members.get(topic, ())) >= GROUP_STUDENTS_MIN
    ]
    return sorted(found, key=lambda group: -len(group.members))


def _works_on(cells: Mapping[str, Cell], concepts: Collection[str]) -> bool:
    """Whether a topic was begun and is not done with."""
    begun = [cells[concept] for concept in concepts if concept in cells]
    if not begun:
        return False
    return len(begun) < len(concepts) or topic_cell(begun).level not in _DONE


def _lacking(student: str, cells: Mapping[str, Cell], concepts: Collection[str]) -> GroupMember | None:
    met = [cells[concept] for concept in concepts if concept in cells]
    known = sum(cell.level in _KNOWN for cell in met)
    return GroupMember(student, known, len(met)) if concepts and known < MET_SHARE_MIN * len(concepts) else None
