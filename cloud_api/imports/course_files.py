"""A course as CSV files: topics, and concepts, questions, prerequisites where there are any; in a folder `topics.csv` and so on, or named one by one.

    topics.csv         topic_id, title; parent_id, level, position, weightage_percent, estimated_hours
    concepts.csv       concept_id, topic_id, title, mastery_threshold     a concept under two topics has two lines
    questions.csv      question_id, topic_id, concept_ids, type, stem, answers_json; choices_json, source_url
    prerequisites.csv  topic_id, prerequisite_topic_id; reason

Lists in a cell are joined by `;`, those named `…_json` are JSON lists of texts. The ids are the course's own; they become external ids, by
which a later import finds the rows again. This module reads and judges each file for itself; references are `imports`' business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cloud_api.imports.csv_table import Line, Problems, read_lines
from cloud_api.publication import row_problems
from domain.registry import TABLES

TOPICS, CONCEPTS, QUESTIONS, PREREQUISITES = "topics.csv", "concepts.csv", "questions.csv", "prerequisites.csv"
LEVEL_DEFAULT = "topic"
# Of concepts that stand for a topic: what their external ids begin with, and their threshold.
TOPIC_CONCEPT, THRESHOLD_DEFAULT = "topic:", 0.85
_HOUR_MINUTES = 60

# What each column of the database is called in the files, for messages.
_COLUMN_NAMES = {
    "weightage": "weightage_percent",
    "estimated_minutes": "estimated_hours",
    "kind": "type",
    "choices": "choices_json",
    "answers": "answers_json",
    "source": "source_url",
}


@dataclass(frozen=True, slots=True)
class CourseFiles:
    """Where the files are; None for one that there is not. With `topics_are_concepts` a course without concepts gets one for each topic that has no
    topics below it."""

    topics: Path
    concepts: Path | None = None
    questions: Path | None = None
    prerequisites: Path | None = None
    topics_are_concepts: bool = False

    @classmethod
    def in_folder(cls, folder: Path) -> CourseFiles:
        """The files of a folder, by the names above."""
        concepts, questions, prerequisites = (
            path if path.exists() else None for path in (folder / name for name in (CONCEPTS, QUESTIONS, PREREQUISITES))
        )
        return cls(folder / TOPICS, concepts, questions, prerequisites)


@dataclass(frozen=True, slots=True)
class CourseTopic:
    """A topic and its parent's external id, empty at the top. `fields`: registry columns that need no look-up."""

    where: str
    external_id: str
    parent: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CourseConcept:
    """A concept and the topics it belongs to, by external id, in the order of the file. `where` is its first line."""

    where: str
    external_id: str
    topics: tuple[str, ...]
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CourseQuestion:
    """A question, its topic and its concepts by external id."""

    where: str
    external_id: str
    topic: str
    concepts: tuple[str, ...]
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CoursePrerequisite:
    """A topic that is to come after another one, both by external id."""

    where: str
    topic: str
    prerequisite: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Course:
    """What the files say; None where there is none."""

    topics: dict[str, CourseTopic]
    concepts: dict[str, CourseConcept] | None
    questions: dict[str, CourseQuestion] | None
    prerequisites: list[CoursePrerequisite] | None


Entry = TypeVar("Entry", CourseTopic, CourseConcept, CourseQuestion)
Parsed = TypeVar("Parsed")


def read_course(files: CourseFiles, problems: Problems) -> Course:
    """The course in these files, problems of form noted; what is returned then is incomplete and only good for finding more problems."""
    topics = _read_topics(files.topics, problems)
    concepts = _if_there(files.concepts, problems, _read_concepts)
    return Course(
        topics=topics,
        concepts=_concepts_of_topics(topics) if concepts is None and files.topics_are_concepts else concepts,
        questions=_if_there(files.questions, problems, _read_questions),
        prerequisites=_if_there(files.prerequisites, problems, _read_prerequisites),
    )


def _if_there(path: Path | None, problems: Problems, read: Callable[[Path, Problems], Parsed]) -> Parsed | None:
    return None if path is None else read(path, problems)


def _concepts_of_topics(topics: dict[str, CourseTopic]) -> dict[str, CourseConcept]:
    """One concept for each topic without topics below it, in the place of a file of them."""
    above = {topic.parent for topic in topics.values()}
    concepts = {}
    for external_id, topic in topics.items():
        if external_id not in above:
            concept_id = TOPIC_CONCEPT + external_id
            fields = {"title": topic.fields["title"], "mastery_threshold": THRESHOLD_DEFAULT, "external_id": concept_id}
            concepts[concept_id] = CourseConcept(topic.where, concept_id, (external_id,), fields)
    return concepts


def _read_topics(path: Path, problems: Problems) -> dict[str, CourseTopic]:
    lines = read_lines(path, ("topic_id", "title"), ("parent_id", "level", "position", "weightage_percent", "estimated_hours"), problems)
    topics = []
    for place, line in enumerate(lines, 1):
        fields = {
            "title": line["title"],
            "level": line["level"] or LEVEL_DEFAULT,
            "position": _number(line, "position", int, problems) if line["position"] else place,
            "weightage": _number(line, "weightage_percent", float, problems),
            "estimated_minutes": _minutes(line, problems),
            "external_id": line["topic_id"],
        }
        _check("topics", fields, line.where, problems)
        topics.append(CourseTopic(line.where, line["topic_id"], line["parent_id"], fields))
    return _by_external_id(topics, problems)


def _minutes(line: Line, problems: Problems) -> int | None:
    """The hours that a topic is said to take, as minutes; at least one."""
    hours = _number(line, "estimated_hours", float, problems)
    return None if hours is None else max(1, round(hours * _HOUR_MINUTES)) if hours > 0 else 0


def _read_concepts(path: Path, problems: Problems) -> dict[str, CourseConcept]:
    lines = read_lines(path, ("concept_id", "topic_id", "title", "mastery_threshold"), (), problems)
    concepts: dict[str, CourseConcept] = {}
    for line in lines:
        threshold = _number(line, "mastery_threshold", float, problems)
        fields = {"title": line["title"], "mastery_threshold": threshold, "external_id": line["concept_id"]}
        _check("concepts", fields, line.where, problems)
        concept = CourseConcept(line.where, line["concept_id"], (line["topic_id"],), fields)
        if (earlier := concepts.get(concept.external_id)) is not None:
            concept = _under_one_more_topic(earlier, concept, problems)
        concepts[concept.external_id] = concept
    return concepts


def _under_one_more_topic(earlier: CourseConcept, again: CourseConcept, problems: Problems) -> CourseConcept:
    if again.topics[0] in earlier.topics:
        problems.add(again.where, "duplicate_id", f"the concept was given under this topic before, at {earlier.where}")
    if again.fields != earlier.fields:
        problems.add(again.where, "contradiction", f"title or mastery_threshold differ from those at {earlier.where}")
    return CourseConcept(earlier.where, earlier.external_id, earlier.topics + again.topics, earlier.fields)


def _read_questions(path: Path, problems: Problems) -> dict[str, CourseQuestion]:
    required = ("question_id", "topic_id", "concept_ids", "type", "stem", "answers_json")
    questions = []
    for line in read_lines(path, required, ("choices_json", "source_url"), problems):
        fields = {
            "kind": line["type"],
            "stem": line["stem"],
            "choices": _texts(line, "choices_json", problems),
            "answers": _texts(line, "answers_json", problems),
            "source": line["source_url"] or None,
            "external_id": line["question_id"],
        }
        _check("questions", fields, line.where, problems)
        _check_choices(fields, line.where, problems)
        questions.append(CourseQuestion(line.where, line["question_id"], line["topic_id"], tuple(line.items("concept_ids")), fields))
    return _by_external_id(questions, problems)


def _read_prerequisites(path: Path, problems: Problems) -> list[CoursePrerequisite]:
    prerequisites = []
    seen: dict[Hashable, str] = {}
    for line in read_lines(path, ("topic_id", "prerequisite_topic_id"), ("reason",), problems):
        prerequisite = CoursePrerequisite(line.where, line["topic_id"], line["prerequisite_topic_id"], line["reason"] or None)
        _check("topic_prerequisites", {"reason": prerequisite.reason}, line.where, problems)
        _note_duplicate(seen, (prerequisite.topic, prerequisite.prerequisite), line.where, problems)
        prerequisites.append(prerequisite)
    return prerequisites


def _by_external_id(entries: Iterable[Entry], problems: Problems) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    seen: dict[Hashable, str] = {}
    for entry in entries:
        _note_duplicate(seen, entry.external_id, entry.where, problems)
        found[entry.external_id] = entry
    return found


def _note_duplicate(seen: dict[Hashable, str], key: Hashable, where: str, problems: Problems) -> None:
    if (first := seen.setdefault(key, where)) != where:
        problems.add(where, "duplicate_id", f"was given before, at {first}")


def _check(table: str, fields: dict[str, Any], where: str, problems: Problems) -> None:
    """The registry's limits, for values that are there; a missing one was noted when the line was read."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    for column, problem in row_problems(TABLES[table], given):
        problems.add(where, "invalid_value", f"{_COLUMN_NAMES.get(column, column)} {problem}")


def _check_choices(fields: dict[str, Any], where: str, problems: Problems) -> None:
    choices, answers = fields["choices"], fields["answers"]
    if answers == []:
        problems.add(where, "invalid_value", "answers_json must hold at least one answer")
    if fields["kind"] == "multiple_choice":
        if not choices:
            problems.add(where, "missing_value", "choices_json must be given for a multiple choice")
        elif answers and not set(answers) <= set(choices):
            problems.add(where, "invalid_value", "every answer of a multiple choice must be one of its choices")


def _number(line: Line, column: str, kind: Callable[[str], Any], problems: Problems) -> Any:
    """The cell as a number, None where it is empty or, with the problem noted, not a finite number."""
    text = line[column]
    if not text:
        return None
    try:
        number = kind(text)
        if math.isfinite(number):
            return number
    except ValueError:
        pass
    problems.add(line.where, "invalid_value", f"{column} must be a {'whole number' if kind is int else 'number'}")
    return None


def _texts(line: Line, column: str, problems: Problems) -> list[str] | None:
    """The cell's JSON list of texts, None where it is empty or, with the problem noted, not such a list."""
    text = line[column]
    if not text:
        return None
    try:
        value = json.loads(text)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            "".join(value).encode()  # half a surrogate pair, which only an escape can smuggle in, cannot be stored
            return value
    except (ValueError, RecursionError):
        pass
    problems.add(line.where, "invalid_value", f"{column} must be a JSON list of texts")
    return None
