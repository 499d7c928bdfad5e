"""What the mastery model looks at: a student's state, the features made from it, and the weight of each.

The chance of a right answer is `sigmoid(Σ weight × feature)`. The features describe the student *before* the answer:

    constant  1
    skill     log odds of the rate P of the question's concepts (their *base*)
    question  log odds of the question's own rate, above the base
    recent    mean over concepts of the log odds of (R + 2P) / (T + 2), above the base; R and T are fading counts of right and all answers
    good      mean of ln(1 + right answers)
    bad       mean of ln(1 + wrong answers)
    fresh     share of the concepts never met
    gap       mean of ln(1 + days since the concept was last met)
    rate      log odds of the student's share of right answers to anything, fading, above the school's
    qgood     ln(1 + earlier right answers to this question)
    qbad      ln(1 + earlier wrong answers to it)
    pause     mean of ln(1 + the student's own answers since the concept was last met): forgetting, for logs without times
    short     as `recent`, fading faster
    again     1 if the student has answered this very question before
    lasting   log odds of the student's share of right answers to anything, ever, above the school's
    form      how much better than foretold the student answered lately (by the shipped weights), in standard units of the log odds
    parts     mean over concepts of the log odds of the concept's own rate, in whatever company it was asked, above the base
    several   ln(number of concepts)

The last seven weigh nothing as shipped: they were not part of the fit on public logs, and a school's own refit (domain/learning/refit.py) finds out what they
are worth there. `form` is of the moment and says nothing of a concept: scores leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log1p
from operator import mul
from typing import NamedTuple

from domain.learning.attempts import DAY_MS, FoldedAttempt, OrderKey, QuestionRef, concept_set, order_key
from domain.learning.odds import logit, sigmoid
from domain.learning.rates import Rates

RECENT_DECAY = 0.85  # what one answer about a concept leaves of the ones before it
SHORT_DECAY = 0.5  # the same for `short`
OVERALL_DECAY = 0.97  # the same for a student's answers as a whole
FORM_DECAY = 0.9  # the same for `form`
# Imagined answers at the expected rate, so that one real answer does not decide.
RECENT_PRIOR, SHORT_PRIOR, OVERALL_PRIOR, LASTING_PRIOR = 2, 1, 3, 5
FORM_PRIOR = 1  # variance, of surprises
# A longer gap is a clock's nonsense, or forgotten all the same.
GAP_DAYS_MAX = 3_650


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
    pause: float = 0.0
    short: float = 0.0
    again: float = 0.0
    lasting: float = 0.0
    form: float = 0.0
    parts: float = 0.0
    several: float = 0.0


# A row of feature values, in the order of `Weights`.
Features = tuple[float, ...]

# Fitted on 52,834 attempts of 209 students from five public logs (logistic regression, L2, C = 10, features unscaled; decision 0008). `qgood` and
# `qbad` are kept as fitted: practice brings questions back, where zero costs 0.009 log loss on a vocabulary log. Their signs differ
# between logs, so a school that refits should look at them first.
WEIGHTS = Weights(0.3382, 0.7632, 0.8955, 0.4536, 0.1323, -0.1861, -0.8001, -0.3482, 0.4016, 0.1684, 0.1125)


class ConceptState(NamedTuple):
    """What a student's answers about one concept left behind: fading sums, plain counts, times.

    `last_number` counts the student's answers to anything up to the last about this concept. `lift` and `lift_ceiling` are the level held up
    (domain/learning/levels.py).
    """

    recent_right: float = 0.0
    evidence: float = 0.0
    short_right: float = 0.0
    short_evidence: float = 0.0
    right: int = 0
    wrong: int = 0
    first_at_ms: int | None = None
    last_at_ms: int | None = None
    last_number: int = 0
    lift: int = 0
    lift_ceiling: int = 0

    @property
    def answers(self) -> int:
        return self.right + self.wrong


class QuestionState(NamedTuple):
    """A student's answers to one question."""

    right: int = 0
    wrong: int = 0
    last_at_ms: int | None = None


@dataclass(slots=True)
class StudentState:
    """One student, folded so far against one table of rates. `count` changes it in place; the states inside are values.

    `answers` and `right` count all, `latest` is the last attempt's order key. `surprise` sums up, fading, how far answers were above the chances foretold
    for them, `doubt` the variance of those chances.
    """

    rates: Rates
    weights: Weights = WEIGHTS
    concepts: dict[str, ConceptState] = field(default_factory=dict)
    questions: dict[str, QuestionState] = field(default_factory=dict)
    recent_right: float = 0.0
    recent_answers: float = 0.0
    answers: int = 0
    right: int = 0
    surprise: float = 0.0
    doubt: float = 0.0
    latest: OrderKey | None = None

    def precedes(self, attempt: FoldedAttempt) -> bool:
        """Whether `attempt` comes after all that was observed. If not, it must be put in its place (domain/learning/history.py)."""
        return self.latest is None or self.latest < order_key(attempt)

    def count(self, attempt: FoldedAttempt, concepts: tuple[str, ...], foretold: float) -> None:
        """Take in the next attempt, about `concepts` as `concept_set` gives them; `foretold` is its `shipped_chance` from before it."""
        correct, at_ms = attempt.correct, attempt.answered_at_ms
        self.answers += 1
        self.right += correct
        self.surprise = FORM_DECAY * self.surprise + (correct - foretold)
        self.doubt = FORM_DECAY * self.doubt + foretold * (1 - foretold)
        for concept in concepts:
            self.concepts[concept] = _counted(self.concepts.get(concept, _UNMET), correct, at_ms, self.answers)
        right, wrong, _ = self.questions.get(attempt.question_id, _UNSEEN)
        self.questions[attempt.question_id] = QuestionState(right + correct, wrong + (not correct), at_ms)
        self.recent_right = OVERALL_DECAY * self.recent_right + correct
        self.recent_answers = OVERALL_DECAY * self.recent_answers + 1
        self.latest = order_key(attempt)


_UNMET, _UNSEEN = ConceptState(), QuestionState()


def _counted(known: ConceptState, correct: bool, at_ms: int | None, number: int) -> ConceptState:
    recent_right, evidence, short_right, short_evidence, right, wrong, first_at_ms, _, _, lift, ceiling = known
    return ConceptState(
        RECENT_DECAY * recent_right + correct,
        RECENT_DECAY * evidence + 1,
        SHORT_DECAY * short_right + correct,
        SHORT_DECAY * short_evidence + 1,
        right + correct,
        wrong + (not correct),
        at_ms if first_at_ms is None else first_at_ms,
        at_ms,
        number,
        lift,
        ceiling,
    )


def question_features(state: StudentState, question: QuestionRef, at_ms: int | None) -> Features:
    """The features of `state` before an answer to `question` at `at_ms`."""
    concepts = concept_set(question.concept_ids)
    expected = state.rates.of_concepts(concepts)
    base = logit(expected)
    of_question = logit(state.rates.of_question(question.question_id, expected)) - base
    seen = state.questions.get(question.question_id)
    asked = (0.0, 0.0, 0.0) if seen is None else (log1p(seen.right), log1p(seen.wrong), 1.0)
    return _features(state, concepts, at_ms, (expected, base, of_question), asked, state.surprise / (state.doubt + FORM_PRIOR))


def concept_features(state: StudentState, concept_id: str, at_ms: int | None) -> Features:
    """The features for a question of middle difficulty, never seen, about this concept alone."""
    expected = state.rates.of_concepts((concept_id,))
    return _features(state, (concept_id,), at_ms, (expected, logit(expected), 0.0), (0.0, 0.0, 0.0), 0.0)


def weighted_sum(weights: Weights, features: Features) -> float:
    """Log odds of a right answer."""
    z: float = sum(map(mul, weights, features))
    return z


def shipped_chance(features: Features) -> float:
    """The chance of a right answer by the shipped weights, whichever are in force: what `form` is measured by must not change with them."""
    return sigmoid(weighted_sum(WEIGHTS, features))


def _features(
    state: StudentState,
    concepts: tuple[str, ...],
    at_ms: int | None,
    asked_of: tuple[float, float, float],
    asked: tuple[float, float, float],
    form: float,
) -> Features:
    """`asked_of` is the rate of the concepts, its log odds, and the question's above them."""
    expected, base, of_question = asked_of
    overall = state.rates.overall
    usual = logit(overall)
    recent = good = bad = gap = pause = short = parts = 0.0
    fresh = 0
    for concept in concepts:
        parts += logit(state.rates.of_concept(concept)) - base
        known = state.concepts.get(concept)
        if known is None:
            fresh += 1
            continue
        recent += logit((known.recent_right + RECENT_PRIOR * expected) / (known.evidence + RECENT_PRIOR)) - base
        short += logit((known.short_right + SHORT_PRIOR * expected) / (known.short_evidence + SHORT_PRIOR)) - base
        good += log1p(known.right)
        bad += log1p(known.wrong)
        pause += log1p(state.answers - known.last_number)
        if at_ms is not None and known.last_at_ms is not None and at_ms > known.last_at_ms:
            gap += log1p(min((at_ms - known.last_at_ms) / DAY_MS, GAP_DAYS_MAX))
    n = max(len(concepts), 1)
    rate = logit((state.recent_right + OVERALL_PRIOR * overall) / (state.recent_answers + OVERALL_PRIOR)) - usual
    lasting = logit((state.right + LASTING_PRIOR * overall) / (state.answers + LASTING_PRIOR)) - usual
    qgood, qbad, again = asked
    return (
        1.0, base, of_question, recent / n, good / n, bad / n, fresh / n, gap / n, rate, qgood, qbad, pause / n, short / n, again,
        lasting, form, parts / n, log(n),
    )  # fmt: skip
