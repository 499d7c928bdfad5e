"""Common wrong answers: what several students believe, told from what one of them mistyped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain.learning.analytics.measures import Interval, wilson
from domain.learning.analytics.student import QuestionFigures

# A wrong answer is common when so many students of those who answered gave it, and such a share of them.
STUDENTS_MIN, SHARE_MIN = 3, 0.20


@dataclass(frozen=True, slots=True)
class CommonWrongAnswer:
    """A wrong answer that `students` of `answered` gave, at any try; `sure` of them with confidence. `interval` holds the share with 95 %."""

    question_id: str
    given: str
    students: int
    answered: int
    sure: int
    share: float
    interval: Interval


def common_wrong_answers(by_student: Iterable[Mapping[str, QuestionFigures]]) -> list[CommonWrongAnswer]:
    """The common wrong answers of a class: those given with confidence first, since sure and wrong is the best sign of a misconception."""
    answered: dict[str, int] = {}
    given: dict[tuple[str, str], list[int]] = {}
    for questions in by_student:
        for question_id, figures in questions.items():
            answered[question_id] = answered.get(question_id, 0) + 1
            for wrong in figures.wrong:
                counts = given.setdefault((question_id, wrong.given), [0, 0])
                counts[0] += 1
                counts[1] += wrong.sure > 0
    common = [
        CommonWrongAnswer(question, text, students, n, sure, round(students / n, 4), wilson(students, n))
        for (question, text), (students, sure) in given.items()
        if students >= STUDENTS_MIN and students / (n := answered[question]) >= SHARE_MIN
    ]
    return sorted(common, key=lambda c: (-(c.students + c.sure), -c.share, c.question_id, c.given))
