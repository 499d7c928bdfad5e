"""One student's attempts and the state folded from them, kept up as attempts arrive, in whatever order they do.

The next attempt costs a few microseconds. A late one is put in its place: what came after it is taken back, and folded again. Taking back
restores the very values from before, so the state is at all times that of a fold over the same attempts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from domain.learning.attempts import FoldedAttempt, concept_set, order_key
from domain.learning.features import WEIGHTS, ConceptState, QuestionState, StudentState, Weights
from domain.learning.mastery import observe
from domain.learning.rates import Rates

# What attempts are ordered by.
Key = tuple[Any, ...]
_V = TypeVar("_V")


class _Before(NamedTuple):
    """What an attempt is about to change. States are values, so holding them is enough to go back."""

    concepts: tuple[tuple[str, ConceptState | None], ...]
    question: QuestionState | None
    recent_right: float
    recent_answers: float
    surprise: float
    doubt: float


class StudentHistory:
    """The attempts of one student in order, and `state` after the last. Some 500 bytes an attempt.

    `key` orders the attempts; logs that number them instead of timing them bring their own.
    """

    def __init__(self, rates: Rates, weights: Weights = WEIGHTS, key: Callable[[FoldedAttempt], Key] = order_key) -> None:
        self.state = StudentState(rates, weights)
        self._key = key
        self._ids: set[str] = set()
        self._keys: list[Key] = []
        # In order; to be read only.
        self.attempts: list[FoldedAttempt] = []
        self._before: list[_Before] = []

    def __len__(self) -> int:
        return len(self.attempts)

    def add(self, attempt: FoldedAttempt) -> int:
        """Take in an attempt. Returns how many had to be folded: 0 if it was here, 1 for the next, more for a late one."""
        return self.extend((attempt,))

    def extend(self, attempts: Iterable[FoldedAttempt]) -> int:
        """Take in attempts in any order; those out of order cost one replay together. Returns how many had to be folded."""
        new = {a.attempt_id: a for a in attempts if a.attempt_id not in self._ids}
        if not new:
            return 0
        self._ids.update(new)
        keyed = sorted(((self._key(attempt), attempt) for attempt in new.values()), key=itemgetter(0))
        place = bisect_right(self._keys, keyed[0][0])
        later = list(zip(self._keys[place:], self.attempts[place:], strict=True))
        for _ in later:
            self._take_back()
        to_fold = sorted((*later, *keyed), key=itemgetter(0)) if later else keyed
        for key, attempt in to_fold:
            self._fold(key, attempt)
        return len(to_fold)

    def settle(self, kept: int) -> None:
        """Let go of all but the last `kept` attempts, for long streams. The state stays; what belongs before those counts as the first of them from now on."""
        gone = max(len(self.attempts) - kept, 0)
        self._ids.difference_update(a.attempt_id for a in self.attempts[:gone])
        del self._keys[:gone], self.attempts[:gone], self._before[:gone]

    def _fold(self, key: Key, attempt: FoldedAttempt) -> None:
        state = self.state
        concepts = tuple((concept, state.concepts.get(concept)) for concept in concept_set(attempt.concept_ids))
        question = state.questions.get(attempt.question_id)
        self._before.append(_Before(concepts, question, state.recent_right, state.recent_answers, state.surprise, state.doubt))
        self.attempts.append(attempt)
        self._keys.append(key)
        observe(state, attempt)

    def _take_back(self) -> None:
        """Undo the last attempt."""
        state, attempt, before = self.state, self.attempts.pop(), self._before.pop()
        self._keys.pop()
        for concept, known in before.concepts:
            _put_back(state.concepts, concept, known)
        _put_back(state.questions, attempt.question_id, before.question)
        state.recent_right, state.recent_answers = before.recent_right, before.recent_answers
        state.surprise, state.doubt = before.surprise, before.doubt
        state.right -= attempt.correct
        state.answers -= 1  # `latest` is set by the attempt that is folded next


def _put_back(values: dict[str, _V], key: str, value: _V | None) -> None:
    if value is None:
        del values[key]
    else:
        values[key] = value
