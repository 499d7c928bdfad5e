"""The difficulty snapshot: success rates of a school's concepts and questions, counted on the server, published to devices.

A snapshot is immutable and goes by the hash of its content, so that two machines that name the same one have the same. It holds counts,
not rates: integers are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.errors import InvalidInput, Problem
from domain.learning.attempts import FoldedAttempt, concept_set
from domain.learning.odds import PROBABILITY_MAX, PROBABILITY_MIN
from domain.learning.rates import Counts, Rates

# Of the form below.
SNAPSHOT_FORMAT = 1
_NONE = Counts(0, 0)


@dataclass(slots=True)
class DifficultyTable:
    """Counts over answers, growing. `rates` looks at what was counted so far."""

    total: Counts = _NONE
    by_concepts: dict[tuple[str, ...], Counts] = field(default_factory=dict)
    by_question: dict[str, Counts] = field(default_factory=dict)
    by_concept: dict[str, Counts] = field(default_factory=dict)

    @classmethod
    def of(cls, attempts: Iterable[FoldedAttempt]) -> DifficultyTable:
        """The counts of these attempts, of any students, each given once."""
        table = cls()
        for attempt in attempts:
            table.count(attempt.question_id, concept_set(attempt.concept_ids), attempt.correct)
        return table

    def count(self, question_id: str, concepts: tuple[str, ...], correct: bool) -> None:
        """Take in one answer to a question about exactly these concepts (`concept_set`)."""
        self.total = _one_more(self.total, correct)
        self.by_concepts[concepts] = _one_more(self.by_concepts.get(concepts, _NONE), correct)
        self.by_question[question_id] = _one_more(self.by_question.get(question_id, _NONE), correct)
        for concept in concepts:
            self.by_concept[concept] = _one_more(self.by_concept.get(concept, _NONE), correct)

    def add(self, question_id: str | None, concepts: tuple[str, ...], counts: Counts) -> None:
        """Take in answers to a question, or (None) to several unnamed ones, about exactly these concepts (`concept_set`), counted elsewhere."""
        self.total = _sum(self.total, counts)
        self.by_concepts[concepts] = _sum(self.by_concepts.get(concepts, _NONE), counts)
        if question_id is not None:
            self.by_question[question_id] = _sum(self.by_question.get(question_id, _NONE), counts)
        for concept in concepts:
            self.by_concept[concept] = _sum(self.by_concept.get(concept, _NONE), counts)

    def rates(self, stated: Mapping[str, float] | None = None) -> Rates:
        """What was counted so far, as the model reads it. Cheap: it looks at the counts, and does not copy them."""
        return Rates(Rates.overall_from(self.total), self.by_concepts, self.by_question, stated or {}, self.by_concept)

    def without(self, part: DifficultyTable) -> DifficultyTable:
        """The counts less those of a part that was counted in as well."""
        total = Counts(self.total.right - part.total.right, self.total.answered - part.total.answered)
        by_concepts, by_question = _less(self.by_concepts, part.by_concepts), _less(self.by_question, part.by_question)
        return DifficultyTable(total, by_concepts, by_question, _less(self.by_concept, part.by_concept))


@dataclass(frozen=True, slots=True)
class DifficultySnapshot:
    """A published table. `encoded` is its only form on the wire and on disk, `id` the hash of it; `answered` counts the answers in it."""

    id: str
    encoded: bytes
    rates: Rates
    answered: int


def snapshot(table: DifficultyTable, stated: Mapping[str, float] | None = None) -> DifficultySnapshot:
    """Publish what was counted, with teachers' own estimates by question (rates from 0.0001 to 0.9999).

    The form is compact JSON, sorted, concepts named once:
    `{"concepts":["c1","c2"],"format":1,"questions":[["q1",3,10]],"sets":[[[0],30,40],[[0,1],2,20]],"stated":[["q1",0.9]],"total":[32,60]}`;
    numbers are right answers and all answers.
    """
    concepts = sorted({concept for concepts in table.by_concepts for concept in concepts})
    place = {concept: n for n, concept in enumerate(concepts)}
    content = {
        "format": SNAPSHOT_FORMAT,
        "total": table.total,
        "concepts": concepts,
        "sets": [[[place[c] for c in concepts], *counts] for concepts, counts in sorted(table.by_concepts.items())],
        "questions": [[question, *counts] for question, counts in sorted(table.by_question.items())],
        "stated": sorted((stated or {}).items()),
    }
    return read_snapshot(json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode())


def read_snapshot(encoded: bytes) -> DifficultySnapshot:
    """A snapshot from its bytes. Raises InvalidInput for bytes that `snapshot` cannot have made."""
    try:
        content = json.loads(encoded)
        rates, total = _rates(content), _counts(*content["total"])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise InvalidInput([Problem("$", "malformed", "This is not a difficulty snapshot.")]) from error
    return DifficultySnapshot(hashlib.sha256(encoded).hexdigest(), encoded, rates, total.answered)


def _rates(content: Any) -> Rates:
    if content["format"] != SNAPSHOT_FORMAT:
        raise ValueError("another format")
    concepts = [_text(c) for c in content["concepts"]]
    by_concepts = {concept_set(concepts[_place(n)] for n in places): _counts(*counts) for places, *counts in content["sets"]}
    by_question = {_text(question): _counts(*counts) for question, *counts in content["questions"]}
    stated = {_text(question): _rate(rate) for question, rate in content["stated"]}
    return Rates(Rates.overall_from(_counts(*content["total"])), by_concepts, by_question, stated)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not an id")
    return value


def _place(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("not a place")
    return value


def _rate(value: Any) -> float:
    if type(value) is not float or not PROBABILITY_MIN <= value <= PROBABILITY_MAX:
        raise ValueError("not a rate")
    return value


def _counts(right: Any, answered: Any) -> Counts:
    if type(right) is not int or type(answered) is not int or not 0 <= right <= answered:
        raise ValueError("not counts")
    return Counts(right, answered)


def _one_more(counts: Counts, correct: bool) -> Counts:
    return Counts(counts.right + correct, counts.answered + 1)


def _sum(counts: Counts, more: Counts) -> Counts:
    return Counts(counts.right + more.right, counts.answered + more.answered)


def _less(whole: Mapping[Any, Counts], part: Mapping[Any, Counts]) -> dict[Any, Counts]:
    """Counts less those of the part; what nothing is left of is gone."""
    differences = ((key, counts, part.get(key, _NONE)) for key, counts in whole.items())
    return {
        key: Counts(all_.right - own.right, all_.answered - own.answered) for key, all_, own in differences if all_.answered > own.answered
    }
