"""Item analysis: how hard a question was for a class, and whether it tells those who know from those who do not.

Facility and discrimination are of first answers alone: later ones are about learning. A student's standing is the share of right first answers to all
*other* questions (the corrected point-biserial: a question must not correlate with itself). Thresholds: docs/analytics.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import compress
from math import sqrt
from operator import itemgetter

from domain.learning.analytics.answered import FirstAnswers
from domain.learning.analytics.measures import VARIANCE_MIN, median, share

# Students below which nothing is said about a question's quality.
DISCRIMINATION_N_MIN = 20
# Other first answers that a student needs for a standing.
OTHERS_MIN = 5
FACILITY_MIN, FACILITY_MAX, DISCRIMINATION_MIN = 0.30, 0.90, 0.15
# Given answers listed of a question.
OPTIONS_MAX = 8


class Flag(StrEnum):
    """What is remarkable about a question."""

    HARD = "hard"
    EASY = "easy"
    WEAK = "discriminates_little"
    CHECK_KEY = "check_the_key"


FLAG_SENTENCES = {
    Flag.HARD: "Fewer than 30 % got it right at first try.",
    Flag.EASY: "More than 90 % got it right at first try.",
    Flag.WEAK: "It hardly tells those who know from those who do not.",
    Flag.CHECK_KEY: "Those who do well elsewhere get it wrong more often: check the key.",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One answer that was given first: by how many, its share among all first answers that were not let go of, among the top and the
    bottom third of these (None: too few).
    """

    given: str
    right: bool
    students: int
    share: float | None
    share_top: float | None
    share_bottom: float | None


# A student's standing without a question, by whether that was answered wrong (0) or right (1).
_Standings = tuple[float, float]


class Firsts:
    """The first answers of a class, looked up by question. Of a thousand questions a page shows a few: what only these need is worked out when it is read."""

    def __init__(self, students: Sequence[FirstAnswers]) -> None:
        self._students = students

    def active_ms(self, question_id: str) -> list[int]:
        """The times that are known."""
        return [ms for student, place, _ in self._of(question_id) if (ms := student.active_ms[place]) is not None]

    def answers(self, question_id: str) -> int:
        """All answers to a question, later ones included."""
        return sum(student.answers[place] for student, place, _ in self._of(question_id))

    def given(self, question_id: str) -> list[tuple[float | None, str, bool]]:
        """(standing without this question, what was given, whether it was right) of each student of whom this was not let go of."""
        return [
            (known[right] if known else None, given, right)
            for student, place, known in self._of(question_id)
            if (given := student.given[place]) is not None
            for right in (student.right[place] == "1",)
        ]

    def _of(self, question_id: str) -> Iterator[tuple[FirstAnswers, int, _Standings | None]]:
        return ((student, places[question_id], known) for student, places, known in self._known if question_id in places)

    @cached_property
    def _known(self) -> list[tuple[FirstAnswers, dict[str, int], _Standings | None]]:
        return [
            (student, {question: place for place, question in enumerate(student.questions)}, standings(student))
            for student in self._students
        ]


@dataclass(frozen=True, slots=True)
class ItemFigures:
    """A question in a class: students who answered it, share right at first try, discrimination (-1 to 1), the answers given, time."""

    question_id: str
    students: int
    facility: float | None
    discrimination: float | None
    flags: tuple[Flag, ...]
    firsts: Firsts = field(repr=False, compare=False)

    @property
    def answers(self) -> int:
        """All answers, later ones included."""
        return self.firsts.answers(self.question_id)

    @property
    def median_active_ms(self) -> int | None:
        """The median time of first answers, of those that were timed."""
        return median(self.firsts.active_ms(self.question_id))

    @property
    def options(self) -> tuple[Option, ...]:
        """The answers that were given first, most frequent first."""
        return _options(self.firsts.given(self.question_id))


@dataclass(slots=True)
class _Placed:
    """Sums over the students who answered a question and have a standing (x); y is 1 for a right answer."""

    n: int = 0
    right: int = 0
    x: float = 0.0
    xx: float = 0.0
    x_right: float = 0.0


def item_figures(students: Sequence[FirstAnswers], only: Collection[str] | None = None) -> list[ItemFigures]:
    """The figures of every question that somebody answered, or of those in `only`, by id."""
    answered: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for student in students:
        answered.update(student.questions)
        right.update(compress(student.questions, map(int, student.right)))
    placed, firsts = _placed(students), Firsts(students)
    wanted = answered if only is None else answered.keys() & only
    return [_item(question, answered[question], right[question], placed[question], firsts) for question in sorted(wanted)]


def standings(student: FirstAnswers) -> _Standings | None:
    """A student's standing without a question; None with too few others."""
    others, right = len(student.questions) - 1, student.right.count("1")
    return (right / others, (right - 1) / others) if others >= OTHERS_MIN else None


def median_times(students: Iterable[FirstAnswers], questions: Collection[str]) -> dict[str, int]:
    """The median time of first answers in milliseconds: of those questions that at least five students answered in a known time."""
    times: dict[str, list[int]] = {question: [] for question in questions}
    for student in students:
        taken = dict(zip(student.questions, student.active_ms, strict=True))
        for question in times.keys() & taken.keys():
            if (ms := taken[question]) is not None:
                times[question].append(ms)
    return {question: found for question, known in times.items() if len(known) >= 5 and (found := median(known)) is not None}


def _placed(students: Iterable[FirstAnswers]) -> defaultdict[str, _Placed]:
    """The sums of every question. In one loop without a call, as it runs once for each student and question."""
    sums: defaultdict[str, _Placed] = defaultdict(_Placed)
    for student in students:
        if (standing := standings(student)) is None:
            continue
        if_wrong, if_right = standing
        for question, right in zip(student.questions, student.right, strict=True):
            of_question = sums[question]
            x = if_wrong
            if right == "1":
                x = if_right
                of_question.right += 1
                of_question.x_right += x
            of_question.n += 1
            of_question.x += x
            of_question.xx += x * x
    return sums


def _item(question_id: str, n: int, right: int, placed: _Placed, firsts: Firsts) -> ItemFigures:
    facility, discrimination = share(right, n), _discrimination(placed)
    return ItemFigures(question_id, n, facility, discrimination, _flags(n, facility, discrimination), firsts)


def _discrimination(s: _Placed) -> float | None:
    """Pearson's correlation from the sums; None with too few students, or when one of both does not vary."""
    if s.n < DISCRIMINATION_N_MIN:
        return None
    xx, yy = s.xx - s.x * s.x / s.n, s.right - s.right * s.right / s.n
    # Rounding grows with the sums that are taken from each other.
    if min(xx, yy) <= VARIANCE_MIN * s.n:
        return None
    return round((s.x_right - s.x * s.right / s.n) / sqrt(xx * yy), 4)


def _flags(n: int, facility: float | None, discrimination: float | None) -> tuple[Flag, ...]:
    if n < DISCRIMINATION_N_MIN or facility is None:
        return ()
    flags = [Flag.HARD] if facility < FACILITY_MIN else [Flag.EASY] if facility > FACILITY_MAX else []
    if discrimination is not None and discrimination < DISCRIMINATION_MIN:
        flags.append(Flag.CHECK_KEY if discrimination < 0 else Flag.WEAK)
    return tuple(flags)


def _options(firsts: Sequence[tuple[float | None, str, bool]]) -> tuple[Option, ...]:
    counted = Counter((given, right) for _, given, right in firsts if given)
    if not counted:
        return ()
    placed = sorted([(standing, given, right) for standing, given, right in firsts if standing is not None], key=itemgetter(0))
    third = len(placed) // 3 if len(placed) >= DISCRIMINATION_N_MIN else 0
    bottom, top = (Counter((given, right) for _, given, right in part) for part in (placed[:third], placed[len(placed) - third :]))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:OPTIONS_MAX]
    return tuple(
        Option(given, right, n, share(n, len(firsts)), share(top[given, right], third), share(bottom[given, right], third))
        for (given, right), n in ordered
    )
