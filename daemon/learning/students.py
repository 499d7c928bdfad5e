"""One student folded in memory: what the engine looks at, and how new answers get into it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence

from daemon.learning.attempts import Extent
from domain.learning.attempts import FoldedAttempt
from domain.learning.history import StudentHistory
from domain.learning.mastery import StudentState, observe
from domain.learning.memory import StudyFold
from domain.learning.model import MasteryModel

# The latest attempts that are kept of a student whose history is too long to be held: more than anybody answers in a day.
TAIL_ATTEMPTS = 1_000


class Student(ABC):
    """`state` for mastery, `study` for plans, `recent` the latest attempts in canonical order. Valid until the lock it was given under is released.

    `mark` is the latest change that is taken in besides new answers, `extent` what there was on the device, `used_at_ms` when it was looked at last.
    """

    def __init__(self, model: MasteryModel) -> None:
        self.model = model
        self.mark = 0
        self.extent = Extent(0, 0)
        self.used_at_ms = 0
        self.study = StudyFold()

    @property
    @abstractmethod
    def state(self) -> StudentState: ...

    @property
    @abstractmethod
    def recent(self) -> Sequence[FoldedAttempt]: ...

    @property
    @abstractmethod
    def held_attempts(self) -> int:
        """How many attempts are in memory for this student."""

    @abstractmethod
    def take_in(self, attempts: Sequence[FoldedAttempt], count: int) -> bool:
        """Takes in attempts in canonical order, known ones among them. Whether `count` of them are counted in then; if not, the student is to be read
        anew."""

    @abstractmethod
    def same_with(self, attempts: Iterable[FoldedAttempt]) -> Student:
        """The student with exactly these attempts, in canonical order."""


class HeldStudent(Student):
    """A student all of whose attempts are in memory, some 1 KB each, so that a late one is put in its place."""

    def __init__(self, model: MasteryModel) -> None:
        super().__init__(model)
        self._history = StudentHistory(model.rates, model.weights)

    @property
    def state(self) -> StudentState:
        return self._history.state

    @property
    def recent(self) -> Sequence[FoldedAttempt]:
        return self._history.attempts

    @property
    def held_attempts(self) -> int:
        return len(self._history.attempts)

    def take_in(self, attempts: Sequence[FoldedAttempt], count: int) -> bool:
        before = len(self._history.attempts)
        folded = self._history.extend(attempts)
        if before + folded == len(self._history.attempts):
            for attempt in self._history.attempts[before:]:
                self.study.observe(attempt)
        else:  # a late one: what came after it was folded again
            self.study = StudyFold.of(self._history.attempts)
        return len(self._history.attempts) == count

    def same_with(self, attempts: Iterable[FoldedAttempt]) -> Student:
        given = list(attempts)
        by_id = {attempt.attempt_id: attempt for attempt in given}
        changed = any(by_id.get(known.attempt_id) != known for known in self._history.attempts)
        student = HeldStudent(self.model) if changed else self
        student.take_in(given, len(given))
        return student


class LongStudent(Student):
    """A student with a long history: folded while it is read, and only its end is kept. New answers go on from there; anything else means reading again."""

    def __init__(self, model: MasteryModel) -> None:
        super().__init__(model)
        self._state = StudentState(model.rates, model.weights)
        self._recent: deque[FoldedAttempt] = deque(maxlen=TAIL_ATTEMPTS)

    @property
    def state(self) -> StudentState:
        return self._state

    @property
    def recent(self) -> Sequence[FoldedAttempt]:
        return self._recent

    @property
    def held_attempts(self) -> int:
        return len(self._recent)

    def take_in(self, attempts: Sequence[FoldedAttempt], count: int) -> bool:
        known = {attempt.attempt_id for attempt in self._recent}
        for attempt in attempts:
            if attempt.attempt_id not in known:
                if not self._state.precedes(attempt):
                    return False
                self._observe(attempt)
        return self._state.answers == count

    def same_with(self, attempts: Iterable[FoldedAttempt]) -> Student:
        student = LongStudent(self.model)
        for attempt in attempts:
            student._observe(attempt)
        return student

    def _observe(self, attempt: FoldedAttempt) -> None:
        observe(self._state, attempt)
        self.study.observe(attempt)
        self._recent.append(attempt)
