"""What importing a course would change in a school: references resolved and judged, then every row compared with the stored one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from cloud_api.imports.course_files import Course
from cloud_api.imports.csv_table import Problems
from cloud_api.imports.edit import Edit
from cloud_api.publication import Row

_Arc = tuple[str, str]


def plan_course(edit: Edit, course: Course, problems: Problems, *, retire: bool) -> None:
    """Puts a course's rows into `edit`; notes references to nothing, and circles, among the problems.

    `retire` also retires what vanished: rows with an external id that the files should name. A topic belongs to the course when it
    lies under one of the files' top topics, a concept or question when all its topics do. Rows made by hand, rows of other
    courses, and tables whose file does not exist are left alone.
    """
    _CoursePlan(edit, course, problems, retire).make()


class _CoursePlan:
    def __init__(self, edit: Edit, course: Course, problems: Problems, retire: bool) -> None:
        self._edit = edit
        self._course = course
        self._problems = problems
        self._retire = retire
        self._topics = edit.by_external_id("topics")
        self._concepts = edit.by_external_id("concepts")
        tree = self._stored_tree()
        vanished_topics = {e for e, row in self._topics.items() if e not in course.topics and row["id"] in tree}
        vanished_concepts = {e for e, row in self._concepts.items() if e not in (course.concepts or {}) and _lies_in(row, tree)}
        self._vanished_topics = vanished_topics if retire else set()
        self._vanished_concepts = vanished_concepts if retire and course.concepts is not None else set()
        self._topic_ids = self._known(self._topics, course.topics, self._vanished_topics)
        self._concept_ids = self._known(self._concepts, course.concepts or {}, self._vanished_concepts)
        # Ids of all topics that are this course's business.
        self._course_topic_ids = tree | {self._topic_ids[external_id] for external_id in course.topics}

    def make(self) -> None:
        self._plan_topics()
        self._plan_concepts()
        self._plan_questions()
        self._plan_prerequisites()
        for table, stored, vanished in (
            ("topics", self._topics, self._vanished_topics),
            ("concepts", self._concepts, self._vanished_concepts),
        ):
            for external_id in sorted(vanished):
                if stored[external_id]["retired_at_ms"] is None:
                    self._edit.retire(table, stored[external_id])

    def _stored_tree(self) -> set[str]:
        """Ids of the stored topics of the file, and of those under them: all that lies, or lay, under its top ones."""
        children: dict[str | None, list[str]] = defaultdict(list)
        for row in self._edit.stored("topics").values():
            children[row["parent_id"]].append(row["id"])
        pending = [self._topics[external_id]["id"] for external_id in self._course.topics if external_id in self._topics]
        tree: set[str] = set()
        while pending:
            topic_id = pending.pop()
            if topic_id not in tree:
                tree.add(topic_id)
                pending.extend(children[topic_id])
        return tree

    def _known(self, stored: Mapping[str, Row], in_file: Iterable[str], vanished: set[str]) -> dict[str, str]:
        """Id by external id of everything that a line may refer to."""
        known = {e: row["id"] for e, row in stored.items() if row["retired_at_ms"] is None and e not in vanished}
        return known | {external_id: self._edit.id_for(stored.get(external_id)) for external_id in in_file}

    def _topic_id(self, external_id: str, column: str, where: str) -> str | None:
        """The topic's id; None, with the problem noted, when there is none. An empty cell means no topic, or was noted when it was read."""
        if not external_id:
            return None
        found = self._topic_ids.get(external_id)
        if found is None:
            self._problems.add(where, "unknown_topic", f"{column} names no topic of {self._where_to_look('topics.csv')}")
        return found

    @staticmethod
    def _where_to_look(file: str) -> str:
        return f"{file} or of the school's course content in use"

    def _plan_topics(self) -> None:
        arcs: dict[_Arc, str] = {}
        for external_id, topic in self._course.topics.items():
            parent_id = self._topic_id(topic.parent, "parent_id", topic.where)
            row = {"id": self._topic_ids[external_id], "parent_id": parent_id, "retired_at_ms": None, **topic.fields}
            self._edit.put("topics", row)
            if parent_id:
                arcs[row["id"], parent_id] = topic.where
        placed = {self._topic_ids[external_id] for external_id in self._course.topics}
        others = {(row["id"], row["parent_id"]) for row in self._edit.stored("topics").values() if row["parent_id"]}
        self._note_circles(arcs, {arc for arc in others if arc[0] not in placed}, "the topic lies under itself")

    def _plan_concepts(self) -> None:
        for external_id, concept in (self._course.concepts or {}).items():
            topic_ids = [self._topic_id(topic, "topic_id", concept.where) for topic in concept.topics]
            stored = self._concepts.get(external_id)
            elsewhere = [t for t in stored["topic_ids"] if t not in self._course_topic_ids] if stored else []
            row: Row = {"id": self._concept_ids[external_id], "topic_ids": topic_ids + elsewhere, "retired_at_ms": None}
            self._edit.put("concepts", row | concept.fields)

    def _plan_questions(self) -> None:
        if self._course.questions is None:
            return
        stored = self._edit.by_external_id("questions")
        for external_id, question in self._course.questions.items():
            row: Row = {
                "id": self._edit.id_for(stored.get(external_id)),
                "topic_id": self._topic_id(question.topic, "topic_id", question.where),
                "concept_ids": [self._concept_id(concept, question.where) for concept in question.concepts],
                "retired_at_ms": None,
            }
            self._edit.put("questions", row | question.fields)
        if self._retire:
            for external_id in sorted(stored.keys() - self._course.questions.keys()):
                row = stored[external_id]
                if row["topic_id"] in self._course_topic_ids and row["retired_at_ms"] is None:
                    self._edit.retire("questions", row)

    def _concept_id(self, external_id: str, where: str) -> str | None:
        found = self._concept_ids.get(external_id)
        if found is None:
            self._problems.add(where, "unknown_concept", f"concept_ids names no concept of {self._where_to_look('concepts.csv')}")
        return found

    def _plan_prerequisites(self) -> None:
        if self._course.prerequisites is None:
            return
        stored = {(row["topic_id"], row["prerequisite_topic_id"]): row for row in self._edit.stored("topic_prerequisites").values()}
        arcs: dict[_Arc, str] = {}
        for line in self._course.prerequisites:
            topic_id = self._topic_id(line.topic, "topic_id", line.where)
            prerequisite_id = self._topic_id(line.prerequisite, "prerequisite_topic_id", line.where)
            if topic_id is None or prerequisite_id is None:
                continue
            arcs[topic_id, prerequisite_id] = line.where
            row: dict[str, Any] = {"topic_id": topic_id, "prerequisite_topic_id": prerequisite_id, "reason": line.reason}
            self._edit.put("topic_prerequisites", {"id": self._edit.id_for(stored.get((topic_id, prerequisite_id))), **row})
        others = stored.keys() - arcs.keys()
        vanished = {arc for arc in others if self._retire and arc[0] in self._course_topic_ids}
        self._note_circles(arcs, others - vanished, "the topic would have to come before itself")
        for arc in sorted(vanished):
            self._edit.delete("topic_prerequisites", stored[arc])

    def _note_circles(self, arcs: Mapping[_Arc, str], others: set[_Arc], message: str) -> None:
        for arc in _circular(arcs.keys() | others) & arcs.keys():
            self._problems.add(arcs[arc], "circle", message)


def _lies_in(concept: Row, topic_ids: set[str]) -> bool:
    return bool(concept["topic_ids"]) and set(concept["topic_ids"]) <= topic_ids


def _circular(arcs: set[_Arc]) -> set[_Arc]:
    """The arcs that lie on circles, or between two of them."""
    return _reversed(_without_ends(_reversed(_without_ends(arcs))))


def _reversed(arcs: set[_Arc]) -> set[_Arc]:
    return {(b, a) for a, b in arcs}


def _without_ends(arcs: set[_Arc]) -> set[_Arc]:
    """The arcs without those from which every path comes to an end (Kahn 1962)."""
    leaving = Counter(a for a, _ in arcs)
    reached_from: dict[str, list[str]] = defaultdict(list)
    for a, b in arcs:
        reached_from[b].append(a)
    ends = [node for node in reached_from if not leaving[node]]
    ended: set[str] = set()
    while ends:
        node = ends.pop()
        ended.add(node)
        for before in reached_from[node]:
            leaving[before] -= 1
            if not leaving[before]:
                ends.append(before)
    return {(a, b) for a, b in arcs if b not in ended}
