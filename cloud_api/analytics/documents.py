"""A student's figures as the three documents in which they are stored: what pages read together stands together."""

from __future__ import annotations

from typing import NamedTuple, Self

import msgspec

from cloud_api.analytics.engine import Engine
from domain.learning.analytics.answered import Answered, FirstAnswers, WrongGiven, by_question, in_columns
from domain.learning.analytics.student import ConceptFigures, DayFigures, StudentFigures
from domain.learning.features import ConceptState, StudentState


class _Mastery(msgspec.Struct, array_like=True):
    """The fold, and what goes with its concepts. Numbers are kept to the last bit: the next answer is folded onto them."""

    recent_right: float
    recent_answers: float
    answers: int
    right: int
    latest: tuple[bool, int, str, str] | None
    proficient: int
    concepts: dict[str, tuple[ConceptState, ConceptFigures]]


class _Days(msgspec.Struct, array_like=True):
    days: dict[int, DayFigures]
    pace: list[tuple[str, int]]
    devices: list[str]


class _First(msgspec.Struct, array_like=True):
    right: str
    active_ms: list[int | None]
    answers: list[int]
    given: list[str | None]


class _Wrong(msgspec.Struct, array_like=True):
    kept: str
    places: list[int]
    given: list[str]
    sure: list[int]
    times: list[int]


class _Questions(msgspec.Struct):
    """A value for each question, and in `wrong` for each wrong answer. Ids have no spaces: one text of all is read faster than a list."""

    ids: str
    first: _First
    wrong: _Wrong
    right: list[int]
    concepts: list[int]

    @classmethod
    def of(cls, answered: Answered) -> Self:
        first, wrong = answered.first, answered.wrong
        return cls(
            " ".join(first.questions),
            _First(first.right, list(first.active_ms), list(first.answers), list(first.given)),
            _Wrong(wrong.kept, list(wrong.places), list(wrong.given), list(wrong.sure), list(answered.times)),
            list(answered.right),
            list(answered.concepts),
        )

    def columns(self) -> Answered:
        return Answered(_first(self), _wrong(self), self.right, self.concepts, self.wrong.times)


class _Firsts(msgspec.Struct):
    """The part of `_Questions` that item analysis reads."""

    ids: str
    first: _First


class _Wrongs(msgspec.Struct):
    """The part that common wrong answers are found in."""

    ids: str
    wrong: _Wrong


class Documents(NamedTuple):
    """JSON texts. `questions` may be None where it was not asked for."""

    mastery: str
    days: str
    questions: str | None = None


_MASTERY = msgspec.json.Decoder(_Mastery)
_DAYS = msgspec.json.Decoder(_Days)
_QUESTIONS = msgspec.json.Decoder(_Questions)
_FIRSTS, _WRONGS = msgspec.json.Decoder(_Firsts), msgspec.json.Decoder(_Wrongs)


def write_documents(figures: StudentFigures) -> Documents:
    """The figures as texts, all three. Answers by question and form are not part of the fold's state: only predictions for a question need them."""
    state = figures.state
    concepts = {concept: (state.concepts[concept], known) for concept, known in figures.concepts.items()}
    mastery = _Mastery(state.recent_right, state.recent_answers, state.answers, state.right, state.latest, figures.proficient, concepts)
    return Documents(
        _text(mastery),
        _text(_Days(figures.days, figures.pace, figures.devices)),
        _text(_Questions.of(in_columns(figures.questions))),
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
        right=mastery.right,
        latest=mastery.latest,
    )
    return StudentFigures(
        state,
        {concept: known for concept, (_, known) in mastery.concepts.items()},
        {} if documents.questions is None else by_question(_QUESTIONS.decode(documents.questions).columns()),
        days.days,
        days.pace,
        days.devices,
        mastery.proficient,
    )


def read_first_answers(questions: str) -> FirstAnswers:
    """First answers alone, from the document `questions`."""
    return _first(_FIRSTS.decode(questions))


def read_wrong_given(questions: str) -> WrongGiven:
    """Wrong answers alone, from the document `questions`."""
    return _wrong(_WRONGS.decode(questions))


def _first(document: _Questions | _Firsts) -> FirstAnswers:
    first = document.first
    return FirstAnswers(document.ids.split(), first.right, first.active_ms, first.answers, first.given)


def _wrong(document: _Questions | _Wrongs) -> WrongGiven:
    wrong = document.wrong
    return WrongGiven(document.ids.split(), wrong.kept, wrong.places, wrong.given, wrong.sure)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
