"""One student as a page shows it: where the student stands, for how long, and what was answered last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_api.analytics.rows import RecentAttempt, StudentDetail
from cloud_api.pages.classes import words
from cloud_api.pages.classes.heat_map import in_words
from cloud_api.pages.classes.practice import Days, days_of
from domain.counted import counted
from domain.learning.analytics.heat_map import Cell
from domain.learning.levels import Level

# Concepts listed, of those with enough evidence lowest first.
CONCEPTS_MAX = 40
# Of the latest answers.
ATTEMPTS_MAX = 20
_ORDER = (Level.ATTEMPTED, Level.FAMILIAR, Level.PROFICIENT, Level.MASTERED, Level.NOT_ENOUGH_EVIDENCE)
_SETTLED = ("done", "skipped")
CONFIDENCE = {1: "guessed", 2: "unsure", 3: "fairly sure", 4: "sure"}


@dataclass(frozen=True, slots=True)
class ConceptLine:
    """A concept. `share` is how far its bar is filled: not at all while there are too few answers to say anything."""

    title: str
    cell: Cell
    words: str

    @property
    def share(self) -> float:
        return 0.0 if self.cell.level is Level.NOT_ENOUGH_EVIDENCE else self.cell.score or 0.0


@dataclass(frozen=True, slots=True)
class PlanLine:
    """An item of the plan: the day in words where a new one begins, else empty; `settled` is done or skipped, empty while it is to do."""

    day: str
    title: str
    minutes: int
    reason: str
    settled: str


@dataclass(frozen=True, slots=True)
class StudentView:
    """`concepts` are the first of `concepts_met`; `sentence` and `kind` say the whole in one sentence (components, `sentence`)."""

    detail: StudentDetail
    days: Days
    concepts: Sequence[ConceptLine]
    concepts_met: int
    plan: Sequence[PlanLine]
    kind: str
    sentence: str
    levels: str

    @property
    def proficient_now(self) -> int:
        """Concepts at proficient or better as of now: time has passed since the answers that `days.proficient` counts after."""
        return sum(cell.level in (Level.PROFICIENT, Level.MASTERED) for cell in self.detail.row.cells.values())

    @property
    def attempts(self) -> Sequence[RecentAttempt]:
        """The latest, newest first."""
        return self.detail.attempts[:ATTEMPTS_MAX]

    @staticmethod
    def sureness(attempt: RecentAttempt) -> str:
        """How sure the student was, as far as it was asked."""
        return CONFIDENCE.get(attempt.confidence or 0, "–")


def student_view(detail: StudentDetail, now_ms: int) -> StudentView:
    """What the page of a student shows."""
    # Equal ones stay in the order of teaching.
    cells = sorted(detail.row.cells.items(), key=lambda item: (_ORDER.index(item[1].level), item[1].score or 0.0))
    lines = [ConceptLine(detail.titles.get(concept, ""), cell, in_words(cell)) for concept, cell in cells]
    kind, sentence = _sentence(detail)
    levels = words.counts(cell.level for cell in detail.row.cells.values())
    return StudentView(detail, days_of(detail.days, now_ms), lines[:CONCEPTS_MAX], len(lines), _plan(detail), kind, sentence, levels)


def _plan(detail: StudentDetail) -> list[PlanLine]:
    days = ["", *(item.day for item in detail.coming)]
    return [
        PlanLine(
            "" if item.day == before else words.day_name(item.day),
            detail.titles.get(item.concept_id, "A concept that is not taught any more"),
            item.minutes,
            item.reason or "",
            item.status if item.status in _SETTLED else "",
        )
        for before, item in zip(days, detail.coming, strict=False)
    ]


def _sentence(detail: StudentDetail) -> tuple[str, str]:
    name = detail.row.display_name
    if not detail.row.cells and (uncounted := detail.row.data_age.uncounted):
        return (
            "working",
            f"{counted(uncounted, 'answer')} of {name} {'is' if uncounted == 1 else 'are'} being counted: look again in a minute.",
        )
    if not detail.row.cells:
        return "waiting", f"{name} has not answered anything yet."
    if detail.reasons:
        return "waiting", f"{name} may need help."
    if detail.standing.off_plan:
        return "waiting", f"{name} is off plan."
    return "good", f"No rule finds that {name} needs help."
