"""The next question: which concept, which of its questions, and why.

The chance of a right answer should be near a target: high enough to encourage, low enough to teach. The rules and targets are
proposals, not measurements (docs/decisions/). Same inputs, same question: no clock, no random, ties by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.learning.mastery import FoldedAttempt, QuestionRef, StudentState, predict, score
from domain.learning.planner import LEARNT_STREAK, ConceptNode, Kind, PlanItem, StudyState

TARGET_LEARNING, TARGET_REVIEW = 0.75, 0.85
STEP_BACK_AFTER_WRONG = 2  # in a row, today
PREREQUISITE_ANSWERS_MAX = 3  # answers to a prerequisite without a right one, after which the concept itself is tried again
ANSWERS_A_DAY_MAX = 10  # about one concept without reaching its goal
# Chances closer than this are equal: `exp` differs in the last bit between C libraries, and both sides must choose alike.
CHANCE_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Desk:
    """All that the choice looks at.

    `today` holds the student's attempts since `day_starts_at_ms` (midnight on the student's clock) in canonical order; `state` and
    `study` are folded over all attempts, those of today included. `steps` is what would be best now without a plan, best first
    (`planner.best_steps`).
    """

    now_ms: int
    day_starts_at_ms: int
    candidates: Sequence[QuestionRef]
    concepts: Mapping[str, ConceptNode]
    state: StudentState
    study: Mapping[str, StudyState]
    today: Sequence[FoldedAttempt]
    steps: Sequence[PlanItem] = ()


@dataclass(frozen=True, slots=True)
class NextQuestion:
    """The question to ask. `concept_id` is what it is asked for: the step's concept, or a prerequisite stepped back to."""

    question_id: str
    concept_id: str
    chance: float
    reason: str


@dataclass(frozen=True, slots=True)
class ConceptLeft:
    """Nothing more to ask about this concept today. `flagged`: many answers without reaching the goal; a teacher should know."""

    concept_id: str
    flagged: bool
    reason: str


def next_question(desk: Desk, item: PlanItem | None) -> NextQuestion | ConceptLeft | None:
    """The next question for the plan's current item, or why its concept is left for today.

    Without an item, the first of `desk.steps` that has a question is taken; None when there is nothing to ask at all.
    """
    if item is not None:
        return _for_item(desk, item)
    choices = (_for_item(desk, step) for step in desk.steps)
    return next((choice for choice in choices if isinstance(choice, NextQuestion)), None)


def _for_item(desk: Desk, item: PlanItem) -> NextQuestion | ConceptLeft:
    left = _left(desk, item)
    if left is not None:
        return left
    concept = _stepped_back(desk, item.concept_id)
    if concept != item.concept_id:
        choice = _nearest(desk, concept, TARGET_REVIEW, "step back: two wrong in a row, so its weakest prerequisite first")
        if choice is not None:
            return choice
    target = TARGET_LEARNING if item.kind is Kind.NEW else TARGET_REVIEW
    choice = _nearest(desk, item.concept_id, target, item.reason)
    return choice or ConceptLeft(item.concept_id, False, "no question about this concept can be asked yet")


def _left(desk: Desk, item: PlanItem) -> ConceptLeft | None:
    """Whether the concept is at its goal, or tried often enough for today. A review starts counting anew each day."""
    answers = _answers(desk.today, item.concept_id)
    streak = _run(answers, right=True)
    if item.kind is Kind.NEW:
        streak = desk.study.get(item.concept_id, StudyState()).right_streak
    if streak >= LEARNT_STREAK:
        return ConceptLeft(item.concept_id, False, f"goal: {LEARNT_STREAK} right in a row")
    if len(answers) >= ANSWERS_A_DAY_MAX:
        return ConceptLeft(item.concept_id, True, f"{len(answers)} answers today without {LEARNT_STREAK} right in a row; go on tomorrow")
    return None


def _stepped_back(desk: Desk, concept: str) -> str:
    """The concept to ask about: while its last answers are wrong, its weakest prerequisite, and so on down.

    One right answer to a prerequisite, or `PREREQUISITE_ANSWERS_MAX` wrong ones, and the concept itself has its turn again.
    """
    visited = {concept}
    while _run(_answers(desk.today, concept), right=False) >= STEP_BACK_AFTER_WRONG:
        node = desk.concepts.get(concept)
        below = [p for p in node.prerequisites if p in desk.concepts and p not in visited] if node else []
        since = [a.correct for a in _after_last(desk.today, concept) if any(p in a.concept_ids for p in below)]
        if not below or any(since) or len(since) >= PREREQUISITE_ANSWERS_MAX:
            break
        concept = min(below, key=lambda p: (score(desk.state, p, desk.now_ms), p))
        visited.add(concept)
    return concept


def _nearest(desk: Desk, concept: str, target: float, reason: str) -> NextQuestion | None:
    """Of the questions not asked today, unseen ones first, the one whose chance is nearest `target`; else the one seen longest ago.

    Never the one just answered: a student who was told the answer a moment ago shows nothing by giving it.
    """
    best: tuple[tuple[int, float, str], NextQuestion] | None = None
    just_answered = desk.today[-1].question_id if desk.today else None
    for question in desk.candidates:
        if question.question_id == just_answered or concept not in question.concept_ids or not _others_met(desk.state, question, concept):
            continue
        chance = predict(desk.state, question, desk.now_ms)
        key = (_seen_rank(desk, question), round(abs(chance - target), CHANCE_DECIMALS), question.question_id)
        if best is None or key < best[0]:
            best = key, NextQuestion(question.question_id, concept, chance, reason)
    return best[1] if best else None


def _seen_rank(desk: Desk, question: QuestionRef) -> int:
    """0 for a question never seen, 1 for one not seen today, and the time of the last answer for one seen today."""
    seen = desk.state.questions.get(question.question_id)
    if seen is None:
        return 0
    last_ms = seen.last_at_ms
    return 1 if last_ms is None or last_ms < desk.day_starts_at_ms else last_ms


def _others_met(state: StudentState, question: QuestionRef, concept: str) -> bool:
    return all(other in state.concepts for other in question.concept_ids if other != concept)


def _answers(attempts: Iterable[FoldedAttempt], concept: str) -> list[bool]:
    """Whether each answer about the concept was right, in order."""
    return [a.correct for a in attempts if concept in a.concept_ids]


def _run(answers: Sequence[bool], *, right: bool) -> int:
    """How many answers at the end are all right, or all wrong."""
    length = 0
    for answer in reversed(answers):
        if answer is not right:
            break
        length += 1
    return length


def _after_last(attempts: Sequence[FoldedAttempt], concept: str) -> Sequence[FoldedAttempt]:
    """The attempts after the last one about the concept."""
    last = max((n for n, attempt in enumerate(attempts) if concept in attempt.concept_ids), default=-1)
    return attempts[last + 1 :]
