"""Mastery: the chance that a student answers a question right, from that student's own attempts and a table of success rates.

The model, "compact-lr", is a logistic regression over eleven features with the same weights for every concept. A student's state
is a pure fold over a grow-only set of attempts in canonical order, so any arrival order over any number of devices gives the same
rows, and nothing here is ever merged: after a late attempt the student is folded again (some microseconds an attempt).

`exp` and `log1p` differ in the last bit between C libraries; scores are therefore stored with four decimals and levels are
computed from what is stored. The decisions behind the model are in docs/decisions/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, log, log1p
from typing import NamedTuple

# Changes with the weights, the features or the level rules; stored beside every score.
MODEL_VERSION = "compact-lr-1"

DAY_MS = 24 * 60 * 60 * 1000
OVERALL_RATE = 0.7394  # share of right answers in the fitting data; stands in until a school has its own
OVERALL_ATTEMPTS_MIN = 100  # below this a school's own share is off by more than 4 points (one standard error)
SHRINKAGE = 5  # attempts that the rate shrunk towards is worth
PROBABILITY_MIN, PROBABILITY_MAX = 0.0001, 0.9999
RECENT_DECAY = 0.85  # what one answer about a concept leaves of the ones before it
OVERALL_DECAY = 0.97  # the same for a student's answers as a whole
RECENT_PRIOR, OVERALL_PRIOR = 2, 3  # imagined answers at the expected rate, so that one real answer does not decide
SCORE_DECIMALS = 4

EVIDENCE_ANSWERS_MIN = 3  # answers below which no level is shown
MASTERED_SPAN_MS = 20 * 60 * 60 * 1000  # "on two days" without needing a time zone
FAMILIAR_FROM, PROFICIENT_FROM, MASTERED_FROM = 0.60, 0.80, 0.90


class Weights(NamedTuple):
    """One weight per feature of the model, in the order of the sum."""

    constant: float
    skill: float
    question: float
    recent: float
    good: float
    bad: float
    fresh: float
    gap: float
    rate: float
    qgood: float
    qbad: float


# Fitted on 52,834 attempts of 209 students from five public logs (logistic regression, L2, C = 10, features unscaled). The two
# last are kept as fitted: practice brings questions back, where zero costs 0.009 log loss on a vocabulary log. Their signs differ
# between logs, so a school that refits should look at them first.
WEIGHTS = Weights(0.3382, 0.7632, 0.8955, 0.4536, 0.1323, -0.1861, -0.8001, -0.3482, 0.4016, 0.1684, 0.1125)


class Level(StrEnum):
    """What is shown of a score. The four after `NOT_ENOUGH_EVIDENCE` are steps of one scale, lowest first."""

    NOT_STARTED = "not_started"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    ATTEMPTED = "attempted"
    FAMILIAR = "familiar"
    PROFICIENT = "proficient"
    MASTERED = "mastered"


SCALE = (Level.ATTEMPTED, Level.FAMILIAR, Level.PROFICIENT, Level.MASTERED)


class QuestionRef(NamedTuple):
    """A question as the model sees it."""

    question_id: str
    concept_ids: tuple[str, ...]


class FoldedAttempt(NamedTuple):
    """What the fold needs of one attempt. `answered_at_ms` is the corrected UTC time of the synced row; None in logs without times."""

    attempt_id: str
    answered_at_ms: int | None
    device_id: str
    question_id: str
    concept_ids: tuple[str, ...]
    correct: bool


OrderKey = tuple[bool, int, str, str]


def order_key(attempt: FoldedAttempt) -> OrderKey:
    """Canonical order: (answered_at_ms, device id, attempt id); attempts without a time come first."""
    at_ms = attempt.answered_at_ms
    return at_ms is not None, at_ms or 0, attempt.device_id, attempt.attempt_id


def in_order(attempts: Iterable[FoldedAttempt]) -> list[FoldedAttempt]:
    """Attempts given in any order, in canonical order; the same attempt given twice counts once."""
    return sorted({a.attempt_id: a for a in attempts}.values(), key=order_key)


def concept_set(concept_ids: Iterable[str]) -> tuple[str, ...]:
    """The one form of a set of concepts: sorted, each once. Sums over it then round the same everywhere."""
    return tuple(sorted(set(concept_ids)))


class Counts(NamedTuple):
    """Right answers among all answers."""

    right: int
    answered: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The difficulty snapshot: success rates from counts over *all* attempts of a school.

    `by_concepts` is keyed by `concept_set(...)` and counts attempts at questions with exactly that set. `stated` holds a
    teacher's own estimate of a question's rate, which replaces the rate that the counts are shrunk towards.
    """

    overall: float = OVERALL_RATE
    by_concepts: Mapping[tuple[str, ...], Counts] = field(default_factory=dict)
    by_question: Mapping[str, Counts] = field(default_factory=dict)
    stated: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Rates:
        """The table of a school without attempts."""
        return cls()

    @staticmethod
    def overall_from(counts: Counts) -> float:
        """The school's own share of right answers, once it has `OVERALL_ATTEMPTS_MIN` attempts."""
        return counts.right / counts.answered if counts.answered >= OVERALL_ATTEMPTS_MIN else OVERALL_RATE

    def of_concepts(self, concepts: tuple[str, ...]) -> float:
        """Expected rate of a question about exactly these concepts; `concepts` as `concept_set` gives it."""
        return _shrunk(self.by_concepts.get(concepts), self.overall)

    def of_question(self, question_id: str, concepts_rate: float) -> float:
        """Expected rate of this question, `concepts_rate` being that of its concepts."""
        return _shrunk(self.by_question.get(question_id), self.stated.get(question_id, concepts_rate))


def _shrunk(counts: Counts | None, towards: float) -> float:
    return towards if counts is None else (counts.right + SHRINKAGE * towards) / (counts.answered + SHRINKAGE)


def logit(probability: float) -> float:
    """Log odds, of a probability held within 0.0001 and 0.9999."""
    held = min(max(probability, PROBABILITY_MIN), PROBABILITY_MAX)
    return log(held / (1 - held))


def sigmoid(z: float) -> float:
    return 1 / (1 + exp(-z))


@dataclass(slots=True)
class ConceptState:
    """What a student's answers about one concept left behind: fading sums, plain counts, times, and the level held up (see `observe`)."""

    recent_right: float = 0.0
    evidence: float = 0.0
    right: int = 0
    wrong: int = 0
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    lift: int = 0
    lift_ceiling: int = 0

    @property
    def answers(self) -> int:
        return self.right + self.wrong


@dataclass(slots=True)
class QuestionState:
    """A student's answers to one question."""

    right: int = 0
    wrong: int = 0
    last_at_ms: int | None = None


@dataclass(slots=True)
class StudentState:
    """One student, folded so far against one table of rates. `observe` changes it in place; `latest` is the last attempt's order key."""

    rates: Rates
    weights: Weights = WEIGHTS
    concepts: dict[str, ConceptState] = field(default_factory=dict)
    questions: dict[str, QuestionState] = field(default_factory=dict)
    recent_right: float = 0.0
    recent_answers: float = 0.0
    latest: OrderKey | None = None

    def precedes(self, attempt: FoldedAttempt) -> bool:
        """Whether `attempt` comes after all that was observed. If not, fold the student again."""
        return self.latest is None or self.latest < order_key(attempt)


@dataclass(frozen=True, slots=True)
class ConceptMastery:
    """One row of the cache. `score` as `score()` gives it, `evidence` the number of answers, older ones faded."""

    concept_id: str
    score: float
    evidence: float
    attempts: int
    right: int
    last_attempt_at_ms: int | None
    level: Level


def fold(attempts: Iterable[FoldedAttempt], rates: Rates, weights: Weights = WEIGHTS) -> StudentState:
    """The state after all attempts of one student, given in any order (`in_order`)."""
    state = StudentState(rates, weights)
    for attempt in in_order(attempts):
        observe(state, attempt)
    return state


def observe(state: StudentState, attempt: FoldedAttempt) -> None:
    """Bring `state` up to date with the next attempt; the caller keeps canonical order (`StudentState.precedes`).

    One wrong answer lowers the level of a concept by at most one, and a right one never lowers it. Where the score alone would
    say less, the difference is kept as `lift`, added to whatever level the score gives later, up to the level held now.
    """
    correct, at_ms = attempt.correct, attempt.answered_at_ms
    concepts = concept_set(attempt.concept_ids)
    held = [(known, concept, _rank(state, concept, known, at_ms)) for concept, known in _at_stake(state, concepts, correct)]
    for concept in concepts:
        _count(state.concepts.setdefault(concept, ConceptState()), correct, at_ms)
    question = state.questions.setdefault(attempt.question_id, QuestionState())
    question.right += correct
    question.wrong += not correct
    question.last_at_ms = at_ms
    state.recent_right = OVERALL_DECAY * state.recent_right + correct
    state.recent_answers = OVERALL_DECAY * state.recent_answers + 1
    state.latest = order_key(attempt)
    for known, concept, rank in held:
        known.lift_ceiling = rank if correct else rank - 1
        known.lift = max(0, known.lift_ceiling - _score_rank(state, concept, known, at_ms))


def _at_stake(state: StudentState, concepts: tuple[str, ...], correct: bool) -> list[tuple[str, ConceptState]]:
    """The concepts whose shown level this answer could lower too far."""
    known = ((concept, state.concepts.get(concept)) for concept in concepts)
    return [(c, k) for c, k in known if k is not None and k.answers >= EVIDENCE_ANSWERS_MIN and (k.lift or not correct)]


def _count(known: ConceptState, correct: bool, at_ms: int | None) -> None:
    known.recent_right = RECENT_DECAY * known.recent_right + correct
    known.evidence = RECENT_DECAY * known.evidence + 1
    known.right += correct
    known.wrong += not correct
    if known.first_at_ms is None:
        known.first_at_ms = at_ms
    known.last_at_ms = at_ms


def predict(state: StudentState, question: QuestionRef, at_ms: int | None) -> float:
    """The chance that the student answers `question` right at `at_ms`."""
    weights, concepts = state.weights, concept_set(question.concept_ids)
    expected = state.rates.of_concepts(concepts)
    z = _concepts_z(state, concepts, at_ms)
    z += weights.question * (logit(state.rates.of_question(question.question_id, expected)) - logit(expected))
    seen = state.questions.get(question.question_id)
    if seen is not None:
        z += weights.qgood * log1p(seen.right) + weights.qbad * log1p(seen.wrong)
    return sigmoid(z)


def score(state: StudentState, concept_id: str, at_ms: int | None) -> float:
    """The chance of a right answer to a question of middle difficulty about this concept at `at_ms`, with four decimals.

    It falls by itself as time passes; nothing is written for forgetting.
    """
    return round(sigmoid(_concepts_z(state, (concept_id,), at_ms)), SCORE_DECIMALS)


def _concepts_z(state: StudentState, concepts: tuple[str, ...], at_ms: int | None) -> float:
    """The part of the weighted sum that does not depend on the single question."""
    weights, expected = state.weights, state.rates.of_concepts(concepts)
    base = logit(expected)
    recent = good = bad = gap = 0.0
    fresh = 0
    for concept in concepts:
        known = state.concepts.get(concept)
        if known is None:
            fresh += 1
            continue
        recent += logit((known.recent_right + RECENT_PRIOR * expected) / (known.evidence + RECENT_PRIOR)) - base
        good += log1p(known.right)
        bad += log1p(known.wrong)
        if at_ms is not None and known.last_at_ms is not None and at_ms > known.last_at_ms:
            gap += log1p((at_ms - known.last_at_ms) / DAY_MS)
    overall = state.rates.overall
    rate = logit((state.recent_right + OVERALL_PRIOR * overall) / (state.recent_answers + OVERALL_PRIOR)) - logit(overall)
    of_concepts = weights.recent * recent + weights.good * good + weights.bad * bad + weights.fresh * fresh + weights.gap * gap
    return weights.constant + weights.skill * base + of_concepts / max(len(concepts), 1) + weights.rate * rate


def mastery_rows(state: StudentState, at_ms: int) -> list[ConceptMastery]:
    """One row per concept that the student has met, by concept id, as of `at_ms`."""
    return [_row(state, concept, state.concepts[concept], at_ms) for concept in sorted(state.concepts)]


def _row(state: StudentState, concept: str, known: ConceptState, at_ms: int) -> ConceptMastery:
    level = SCALE[_rank(state, concept, known, at_ms)] if known.answers >= EVIDENCE_ANSWERS_MIN else Level.NOT_ENOUGH_EVIDENCE
    evidence = round(known.evidence, SCORE_DECIMALS)
    return ConceptMastery(concept, score(state, concept, at_ms), evidence, known.answers, known.right, known.last_at_ms, level)


def _rank(state: StudentState, concept: str, known: ConceptState, at_ms: int | None) -> int:
    """The step of `SCALE` to show: what the score gives, lifted where a single answer took too much."""
    rank = _score_rank(state, concept, known, at_ms)
    return max(rank, min(rank + known.lift, known.lift_ceiling))


def _score_rank(state: StudentState, concept: str, known: ConceptState, at_ms: int | None) -> int:
    """The step of `SCALE` that the score alone gives."""
    value = score(state, concept, at_ms)
    if value >= MASTERED_FROM and _on_two_days(known) and known.answers >= EVIDENCE_ANSWERS_MIN:
        return 3
    return (value >= FAMILIAR_FROM) + (value >= PROFICIENT_FROM)


def _on_two_days(known: ConceptState) -> bool:
    first, last = known.first_at_ms, known.last_at_ms
    return first is not None and last is not None and last - first >= MASTERED_SPAN_MS
