"""A student's figures as the three documents in which they are stored: what pages read together stands together."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from cloud_api.analytics.engine import Engine
from domain.learning.analytics.student import ConceptFigures, DayFigures, QuestionFigures, StudentFigures
from domain.learning.features import ConceptState, StudentState


class _Mastery(msgspec.Struct, array_like=True):
    """The fold, and what goes with its concepts. Numbers are kept to the last bit: the next answer is folded onto them."""

    recent_right: float
    recent_answers: float
    answers: int
    latest: tuple[bool, int, str, str] | None
    proficient: int
    concepts: dict[str, tuple[ConceptState, ConceptFigures]]


class _Days(msgspec.Struct, array_like=True):
    days: dict[int, DayFigures]
    pace: list[tuple[str, int]]
    devices: list[str]


class Documents(NamedTuple):
    """JSON texts. `questions` may be None where it was not asked for."""

    mastery: str
    days: str
    questions: str | None = None


_MASTERY = msgspec.json.Decoder(_Mastery)
_DAYS = msgspec.json.Decoder(_Days)
_QUESTIONS = msgspec.json.Decoder(dict[str, QuestionFigures])


def write_documents(figures: StudentFigures) -> Documents:
    """The figures as texts, all three. Answers by question are not part of the fold's state: only predictions for a question need them."""
    state = figures.state
    concepts = {concept: (state.concepts[concept], known) for concept, known in figures.concepts.items()}
    mastery = _Mastery(state.recent_right, state.recent_answers, state.answers, state.latest, figures.proficient, concepts)
    return Documents(
        _text(mastery),
        _text(_Days(figures.days, figures.pace, figures.devices)),
        _text(figures.questions),
    )


def read_documents(documents: Documents, engine: Engine) -> StudentFigures:
    """The figures from their texts; without questions where those were not read."""
    mastery, days = _MASTERY.decode(documents.mastery), _DAYS.decode(documents.days)
    state = StudentState(
        engine.rates,
        engine.weights,
        {concept: state for concept, (state, _) in mastery.concepts.items()},
        recent_right=mastery.recent_right,
        recent_answers=mastery.recent_answers,
        answers=mastery.answers,
        latest=mastery.latest,
    )
    return StudentFigures(
        state,
        {concept: known for concept, (_, known) in mastery.concepts.items()},
        {} if documents.questions is None else _QUESTIONS.decode(documents.questions),
        days.days,
        days.pace,
        days.devices,
        mastery.proficient,
    )


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
