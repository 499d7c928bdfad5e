"""The cells of a heat map: one student and one concept, or one student and one topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from domain.learning.analytics.scores import Expected, scores
from domain.learning.features import StudentState
from domain.learning.levels import EVIDENCE_ANSWERS_MIN, FAMILIAR_FROM, MASTERED_FROM, PROFICIENT_FROM, Level, level
from domain.learning.mastery import SCORE_DECIMALS


class Cell(NamedTuple):
    """`score` is the chance of a right answer now, None where nothing was answered; shown grey at `not_enough_evidence`.

    `answers` is the evidence. The score is stated under the threshold too, for those who ask; a page shows it grey.
    """

    level: Level
    score: float | None
    answers: int
    last_answer_at_ms: int | None


NOT_STARTED = Cell(Level.NOT_STARTED, None, 0, None)


def concept_cells(state: StudentState, at_ms: int, known_rates: Expected | None = None) -> dict[str, Cell]:
    """A cell for each concept that the student has met, as of `at_ms`. `known_rates`: see `scores`."""
    cells = {}
    for concept, value in scores(state, at_ms, known_rates).items():
        known = state.concepts[concept]
        cells[concept] = Cell(level(known, value), value, known.answers, known.last_at_ms)
    return cells


def topic_cell(cells: Sequence[Cell]) -> Cell:
    """The cell of a topic from those of its concepts: the mean score of the concepts with enough answers, and the level of that.

    A topic is mastered when each of these concepts is; grey while none has enough answers.
    """
    met = [cell for cell in cells if cell.answers]
    if not met:
        return NOT_STARTED
    answers, last_ms = sum(cell.answers for cell in met), max(cell.last_answer_at_ms or 0 for cell in met)
    sound = [cell for cell in met if cell.answers >= EVIDENCE_ANSWERS_MIN]
    mean = round(sum(cell.score or 0.0 for cell in sound or met) / len(sound or met), SCORE_DECIMALS)
    return Cell(_topic_level(sound, mean) if sound else Level.NOT_ENOUGH_EVIDENCE, mean, answers, last_ms or None)


def _topic_level(sound: Sequence[Cell], mean: float) -> Level:
    if mean >= MASTERED_FROM and all(cell.level is Level.MASTERED for cell in sound):
        return Level.MASTERED
    return Level.PROFICIENT if mean >= PROFICIENT_FROM else Level.FAMILIAR if mean >= FAMILIAR_FROM else Level.ATTEMPTED
