"""Common wrong answers: what several students believe, told from what one of them mistyped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from domain.learning.analytics.answered import SEPARATOR, WrongGiven
from domain.learning.analytics.measures import Interval, share, wilson

# A wrong answer is common when so many students gave it, and such a share of those whose answers are kept.
STUDENTS_MIN, SHARE_MIN = 3, 0.20


@dataclass(frozen=True, slots=True)
class CommonWrongAnswer:
    """A wrong answer that `students` gave, at any try, `sure` of them with confidence; `answered` are all of whose answers to it one at least was not let go of."""

    question_id: str
    given: str
    students: int
    answered: int
    sure: int

    @property
    def share(self) -> float | None:
        """None under five of `answered`."""
        return share(self.students, self.answered)

    @property
    def interval(self) -> Interval | None:
        """Where the share lies with 95 %; None where it is not told."""
        return None if self.share is None else wilson(self.students, self.answered)


def common_wrong_answers(students: Iterable[WrongGiven], only: Collection[str] | None = None) -> list[CommonWrongAnswer]:
    """The common wrong answers of a class, or those to the questions in `only`: those given with confidence first, since sure and wrong is the best sign
    of a misconception.
    """
    answered: Counter[str] = Counter()
    given: Counter[str] = Counter()
    sure: Counter[str] = Counter()
    for student in students:
        answered.update(student.kept_questions())
        given.update(student.keys())
        sure.update(student.sure_keys())
    common = []
    for key, n in given.items():
        if n >= STUDENTS_MIN:
            question, _, text = key.partition(SEPARATOR)
            if n / answered[question] >= SHARE_MIN and (only is None or question in only):
                common.append(CommonWrongAnswer(question, text, n, answered[question], sure[key]))
    return sorted(common, key=lambda c: (-(c.students + c.sure), c.answered, c.question_id, c.given))
