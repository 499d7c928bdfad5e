"""Item analysis: how hard a question was for a class, and whether it tells those who know from those who do not.

Facility and discrimination are of first answers alone: later ones are about learning. A student's standing is the share of right first answers to all
*other* questions (the corrected point-biserial: a question must not correlate with itself). Thresholds: docs/analytics.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter

from domain.learning.analytics.measures import correlation, median, share
from domain.learning.analytics.student import QuestionFigures

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
    """One answer that was given first: by how many, its share among all, among the top third and the bottom third (None: too few)."""

    given: str
    right: bool
    students: int
    share: float | None
    share_top: float | None
    share_bottom: float | None


# One student's first answer, and that student's standing without it (None: too few others).
_First = tuple[QuestionFigures, float | None]


@dataclass(frozen=True, slots=True)
class ItemFigures:
    """A question in a class: students who answered it, share right at first try, discrimination (-1 to 1), the answers given, time."""

    question_id: str
    students: int
    answers: int
    facility: float | None
    discrimination: float | None
    flags: tuple[Flag, ...]
    median_active_ms: int | None
    firsts: Sequence[_First] = field(repr=False, compare=False)

    @property
    def options(self) -> tuple[Option, ...]:
        """The answers that were given first, most frequent first. Worked out when read: of a thousand questions a page shows a few."""
        return _options(self.firsts)


def item_figures(by_student: Iterable[Mapping[str, QuestionFigures]], only: frozenset[str] | None = None) -> list[ItemFigures]:
    """The figures of every question that somebody answered, or of those in `only`, by id. One mapping a student, by question."""
    firsts: defaultdict[str, list[_First]] = defaultdict(list)
    for questions in by_student:
        others, right = len(questions) - 1, sum(q.first_right for q in questions.values())
        # Without this answer: by whether it was wrong (0) or right (1).
        standings = (right / others, (right - 1) / others) if others >= OTHERS_MIN else (None, None)
        for question_id, figures in questions.items():
            if only is None or question_id in only:
                firsts[question_id].append((figures, standings[figures.first_right]))
    return [_item(question_id, firsts[question_id]) for question_id in sorted(firsts)]


def median_times(by_student: Iterable[Mapping[str, QuestionFigures]]) -> dict[str, int]:
    """The median time of first answers in milliseconds, of questions that at least five students answered in a known time."""
    times: dict[str, list[int]] = {}
    for questions in by_student:
        for question_id, figures in questions.items():
            if figures.first_active_ms is not None:
                times.setdefault(question_id, []).append(figures.first_active_ms)
    return {question: found for question, known in times.items() if len(known) >= 5 and (found := median(known)) is not None}


def _item(question_id: str, firsts: list[_First]) -> ItemFigures:
    n, right, answers, times = len(firsts), 0, 0, []
    for figures, _ in firsts:
        right += figures.first_right
        answers += figures.answers
        if figures.first_active_ms is not None:
            times.append(figures.first_active_ms)
    facility, discrimination = share(right, n), _discrimination(firsts)
    flags = _flags(n, facility, discrimination)
    return ItemFigures(question_id, n, answers, facility, discrimination, flags, median(times), firsts)


def _discrimination(firsts: list[_First]) -> float | None:
    placed = [(standing, float(figures.first_right)) for figures, standing in firsts if standing is not None]
    if len(placed) < DISCRIMINATION_N_MIN:
        return None
    value = correlation([standing for standing, _ in placed], [right for _, right in placed])
    return None if value is None else round(value, 4)


def _flags(n: int, facility: float | None, discrimination: float | None) -> tuple[Flag, ...]:
    if n < DISCRIMINATION_N_MIN or facility is None:
        return ()
    flags = [Flag.HARD] if facility < FACILITY_MIN else [Flag.EASY] if facility > FACILITY_MAX else []
    if discrimination is not None and discrimination < DISCRIMINATION_MIN:
        flags.append(Flag.CHECK_KEY if discrimination < 0 else Flag.WEAK)
    return tuple(flags)


def _options(firsts: Sequence[_First]) -> tuple[Option, ...]:
    counted = Counter((figures.first_given, figures.first_right) for figures, _ in firsts if figures.first_given)
    if not counted:
        return ()
    answered = [(standing, figures.first_given, figures.first_right) for figures, standing in firsts if standing is not None]
    placed = sorted(answered, key=itemgetter(0))
    third = len(placed) // 3 if len(placed) >= DISCRIMINATION_N_MIN else 0
    bottom, top = (Counter((given, right) for _, given, right in part) for part in (placed[:third], placed[len(placed) - third :]))
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:OPTIONS_MAX]
    return tuple(
        Option(given, right, n, share(n, len(firsts)), share(top[given, right], third), share(bottom[given, right], third))
        for (given, right), n in ordered
    )
