"""What is kept of one student's answers, so that no figure of a class has to look at raw attempts.

A pure fold in canonical order, like mastery, which it includes. Everything is one student's own: the figures of a class are made from those of its
present members, so a student who changes class, or is erased, takes everything along.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from zlib import crc32

from domain.learning.attempts import DAY_MS, FoldedAttempt, concept_set
from domain.learning.features import StudentState
from domain.learning.levels import EVIDENCE_ANSWERS_MIN, rank
from domain.learning.mastery import observe, score

# Of the figures kept; another number makes all of them anew.
FIGURES_VERSION = 4
# Answers in a row that count as having got it (domain/learning/questions.py leaves a concept by the same).
RIGHT_IN_A_ROW = 3
# A gap between two answers longer than this was not spent on the task, nor was more than this on one answer.
GAP_MS_MAX = 5 * 60 * 1000
# Chances to practise a concept that a learning curve shows.
OPPORTUNITIES_MAX = 20
# Of each student and question: different wrong answers kept, and characters of each.
WRONG_ANSWERS_MAX, ANSWER_CHARS_MAX = 4, 120
# Days kept, newest first; the latest timed answers, for guessing; devices last written on.
DAYS_MAX, PACE_ANSWERS_MAX, DEVICES_MAX = 400, 20, 8
# Confidence from which an answer counts as sure; the scale is 1 to 4.
SURE_FROM = 3
PROFICIENT_RANK = 2
GREY = -1


class Answer(NamedTuple):
    """One attempt with what class figures need besides the fold. `active_ms` is the time spent on it, `confidence` 1 to 4; `let_go`: nobody knows
    any more what was given, because the school has let go of it.
    """

    attempt: FoldedAttempt
    given: str | None = None
    active_ms: int | None = None
    confidence: int | None = None
    let_go: bool = False


class ConceptFigures(NamedTuple):
    """A student's answers about one concept.

    `unsettled` counts answers since three in a row were right; `shown` is the step of the level scale after the last answer, GREY under the evidence
    threshold; `learnt` once there were three. `fell_from` is the step from which answers lowered it, GREY when it has been reached again. `curve` has a 1 or 0 for each of the first answers.
    """

    run_right: int = 0
    run_wrong: int = 0
    unsettled: int = 0
    shown: int = GREY
    fell_from: int = GREY
    fell_at_ms: int | None = None
    active_ms: int = 0
    curve: str = ""
    learnt: bool = False


class WrongAnswer(NamedTuple):
    """A wrong answer in comparable form, how often it was given, and how often with confidence."""

    given: str
    times: int
    sure: int


class QuestionFigures(NamedTuple):
    """A student's answers to one question: the first one, all of them counted, the wrong ones by what was given.

    `first_given` is None where it was let go of, and empty where the app did not say; `kept`: one of the answers at least was not let go of.
    `concepts` is a checksum of the question's concepts as they were counted (`concepts_checksum`).
    """

    first_right: bool
    first_given: str | None
    first_active_ms: int | None
    answers: int
    right: int
    wrong: tuple[WrongAnswer, ...]
    concepts: int
    kept: bool = True


class DayFigures(NamedTuple):
    """A day (UTC): time on task, answers, right ones, and the concepts at proficient or above after its last answer."""

    active_ms: int
    answers: int
    right: int
    proficient: int


@dataclass(slots=True)
class StudentFigures:
    """One student, folded so far. `days` is keyed by days since 1970-01-01; `pace` are the latest timed answers, oldest first."""

    state: StudentState
    concepts: dict[str, ConceptFigures] = field(default_factory=dict)
    questions: dict[str, QuestionFigures] = field(default_factory=dict)
    days: dict[int, DayFigures] = field(default_factory=dict)
    pace: list[tuple[str, int]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    proficient: int = 0

    @property
    def last_at_ms(self) -> int | None:
        """When the last answer was given."""
        return self.state.latest[1] if self.state.latest and self.state.latest[0] else None


def take_in(figures: StudentFigures, answer: Answer) -> None:
    """Bring the figures up to date with the next answer; the caller keeps canonical order (`StudentState.precedes`)."""
    attempt, concepts = answer.attempt, concept_set(answer.attempt.concept_ids)
    spent_ms = time_on_task_ms(answer.active_ms, attempt.answered_at_ms, figures.last_at_ms)
    observe(figures.state, attempt)
    for concept in concepts:
        _count_concept(figures, concept, attempt, spent_ms // len(concepts))
    known = figures.questions.get(attempt.question_id)
    figures.questions[attempt.question_id] = _counted_question(known, answer, concepts)
    if attempt.answered_at_ms is not None:
        _count_day(figures, attempt.answered_at_ms // DAY_MS, spent_ms, attempt.correct)
    if answer.active_ms is not None:
        figures.pace.append((attempt.question_id, answer.active_ms))
        del figures.pace[:-PACE_ANSWERS_MAX]
    if not figures.devices or figures.devices[-1] != attempt.device_id:
        figures.devices = [*(d for d in figures.devices if d != attempt.device_id), attempt.device_id][-DEVICES_MAX:]


def time_on_task_ms(active_ms: int | None, at_ms: int | None, before_ms: int | None) -> int:
    """Time spent on an answer: what the app measured, else since the answer before; idle gaps (GAP_MS_MAX) are cut."""
    if active_ms is not None:
        return min(active_ms, GAP_MS_MAX)
    if at_ms is None or before_ms is None or at_ms - before_ms > GAP_MS_MAX:
        return 0
    return max(at_ms - before_ms, 0)


def comparable(given: str | None) -> str:
    """An answer in the form in which equal ones are counted: no case, single spaces, cut to ANSWER_CHARS_MAX."""
    return " ".join((given or "").casefold().split())[:ANSWER_CHARS_MAX]


def concepts_checksum(concept_ids: Iterable[str]) -> int:
    """Tells whether a question is still about the concepts under which its answers were counted."""
    return crc32(" ".join(concept_set(concept_ids)).encode())


def _count_concept(figures: StudentFigures, concept: str, attempt: FoldedAttempt, spent_ms: int) -> None:
    before, correct, at_ms = figures.concepts.get(concept, _UNMET), attempt.correct, attempt.answered_at_ms
    known = figures.state.concepts[concept]
    shown = GREY if known.answers < EVIDENCE_ANSWERS_MIN else rank(known, score(figures.state, concept, at_ms))
    run_right = before.run_right + 1 if correct else 0
    fell_from, fell_at_ms = before.fell_from, before.fell_at_ms
    if shown < before.shown:
        fell_from, fell_at_ms = max(fell_from, before.shown), at_ms
    elif shown >= fell_from:
        fell_from, fell_at_ms = GREY, None
    figures.proficient += (shown >= PROFICIENT_RANK) - (before.shown >= PROFICIENT_RANK)
    figures.concepts[concept] = ConceptFigures(
        run_right,
        0 if correct else before.run_wrong + 1,
        0 if run_right >= RIGHT_IN_A_ROW else before.unsettled + 1,
        shown,
        fell_from,
        fell_at_ms,
        before.active_ms + spent_ms,
        before.curve + "01"[correct] if len(before.curve) < OPPORTUNITIES_MAX else before.curve,
        before.learnt or run_right >= RIGHT_IN_A_ROW,
    )


def _counted_question(known: QuestionFigures | None, answer: Answer, concepts: tuple[str, ...]) -> QuestionFigures:
    correct, given = answer.attempt.correct, comparable(answer.given)
    if known is None:
        first = None if answer.let_go else given
        known = QuestionFigures(correct, first, answer.active_ms, 0, 0, (), concepts_checksum(concepts), kept=False)
    wrong = known.wrong if correct else _with_wrong(known.wrong, given, (answer.confidence or 0) >= SURE_FROM)
    return known._replace(answers=known.answers + 1, right=known.right + correct, wrong=wrong, kept=known.kept or not answer.let_go)


def _with_wrong(wrong: tuple[WrongAnswer, ...], given: str, sure: bool) -> tuple[WrongAnswer, ...]:
    """One more wrong answer; past WRONG_ANSWERS_MAX different ones the first stay, as they say most about what a student believed."""
    for place, known in enumerate(wrong):
        if known.given == given:
            return (*wrong[:place], WrongAnswer(given, known.times + 1, known.sure + sure), *wrong[place + 1 :])
    return (*wrong, WrongAnswer(given, 1, int(sure))) if given and len(wrong) < WRONG_ANSWERS_MAX else wrong


def _count_day(figures: StudentFigures, day: int, spent_ms: int, correct: bool) -> None:
    before = figures.days.get(day, _IDLE)
    figures.days[day] = DayFigures(before.active_ms + spent_ms, before.answers + 1, before.right + correct, figures.proficient)
    if len(figures.days) > DAYS_MAX:
        del figures.days[min(figures.days)]


_UNMET, _IDLE = ConceptFigures(), DayFigures(0, 0, 0, 0)
