"""A student's answers by question in columns, of which class figures read tens of thousands at once: a list for each value instead of an object for each
question, so that counting them over a class is mostly done by what Python does in C.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import add

from domain.learning.analytics.student import QuestionFigures, WrongAnswer

# Between question and answer in `WrongGiven.keys`; no id holds it.
SEPARATOR = " "


@dataclass(frozen=True, slots=True)
class FirstAnswers:
    """First answers: a question, 1 or 0 for whether it was right, the time it took, all answers to it counted, what was given first (None: let go of)."""

    questions: Sequence[str]
    right: str
    active_ms: Sequence[int | None]
    answers: Sequence[int]
    given: Sequence[str | None]


@dataclass(frozen=True, slots=True)
class WrongGiven:
    """Wrong answers: the place in `questions` of what they answer, what was given (each once for a question), how often with confidence.

    `kept` has a 1 for each question of which one answer at least was not let go of, else 0.
    """

    questions: Sequence[str]
    kept: str
    places: Sequence[int]
    given: Sequence[str]
    sure: Sequence[int]

    def kept_questions(self) -> Iterator[str]:
        """Those of which one answer at least was not let go of."""
        return compress(self.questions, map("1".__eq__, self.kept))

    def keys(self) -> Iterator[str]:
        """Question and answer as one text, for counting over a class."""
        asked = [question + SEPARATOR for question in self.questions]
        return map(add, map(asked.__getitem__, self.places), self.given)

    def sure_keys(self) -> Iterator[str]:
        """Those that were given with confidence."""
        return compress(self.keys(), self.sure)


@dataclass(frozen=True, slots=True)
class Answered:
    """Everything that is kept of a student's answers by question: `first` and `wrong`, and what only counting on needs."""

    first: FirstAnswers
    wrong: WrongGiven
    right: Sequence[int]
    concepts: Sequence[int]
    times: Sequence[int]


def in_columns(figures: Mapping[str, QuestionFigures]) -> Answered:
    """The figures of all questions in columns, in the same order."""
    questions, rows = list(figures), figures.values()
    wrong = [(place, *one) for place, row in enumerate(rows) for one in row.wrong]
    return Answered(
        FirstAnswers(
            questions,
            "".join("01"[row.first_right] for row in rows),
            [row.first_active_ms for row in rows],
            [row.answers for row in rows],
            [row.first_given for row in rows],
        ),
        WrongGiven(questions, "".join("01"[row.kept] for row in rows), [w[0] for w in wrong], [w[1] for w in wrong], [w[3] for w in wrong]),
        [row.right for row in rows],
        [row.concepts for row in rows],
        [w[2] for w in wrong],
    )


def by_question(answered: Answered) -> dict[str, QuestionFigures]:
    """The same by question, to count on: what `in_columns` was made from."""
    first, wrong = answered.first, answered.wrong
    given: list[tuple[WrongAnswer, ...]] = [()] * len(first.questions)
    for place, text, times, sure in zip(wrong.places, wrong.given, answered.times, wrong.sure, strict=True):
        given[place] = (*given[place], WrongAnswer(text, times, sure))
    columns = (
        map("1".__eq__, first.right),
        first.given,
        first.active_ms,
        first.answers,
        answered.right,
        given,
        answered.concepts,
        map("1".__eq__, wrong.kept),
    )
    return dict(zip(first.questions, map(QuestionFigures, *columns), strict=True))
