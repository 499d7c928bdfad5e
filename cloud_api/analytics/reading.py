"""One reading of a class: what is stored of its students at one moment, each part read when a figure needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cloud_api.analytics import course, plans, roster, storage
from cloud_api.analytics.course import Course
from cloud_api.analytics.documents import read_first_answers, read_wrong_given
from cloud_api.analytics.engine import Engine, engine_of
from cloud_api.analytics.keep_up import ANSWERS_WHILE_WAITED_FOR, keep_up
from cloud_api.analytics.plans import Ahead
from cloud_api.analytics.roster import Roster
from cloud_api.analytics.rows import DataAge
from cloud_api.database import Cursor
from domain.learning.analytics.answered import FirstAnswers, WrongGiven
from domain.learning.analytics.heat_map import Cell, concept_cells
from domain.learning.analytics.plan_standing import PlanStanding, plan_standing
from domain.learning.analytics.scores import Expected
from domain.learning.analytics.student import StudentFigures
from domain.learning.attempts import DAY_MS
from domain.learning.features import StudentState


@dataclass(frozen=True)
class Reading:
    """A class at one moment of the database, within the transaction of `cursor`. `behind` counts answers that are not in the figures yet, by student."""

    cursor: Cursor
    school_id: str
    roster: Roster
    engine: Engine
    behind: Mapping[str, int]
    now_ms: int

    @property
    def today(self) -> int:
        return self.now_ms // DAY_MS

    @cached_property
    def figures(self) -> Mapping[str, StudentFigures]:
        """Of each student, without answers by question; empty ones of a student without an answer."""
        stored = storage.read(self.cursor, self.school_id, list(self.roster.students), self.engine, questions=False)
        return {s: stored[s].figures if s in stored else self._nothing() for s in self.roster.students}

    def cells_of(self, student: str) -> Mapping[str, Cell]:
        """The cell of each concept that a student has met; concepts that are not taught any more among them."""
        return concept_cells(self.figures[student].state, self.now_ms, self._known_rates)

    @cached_property
    def _known_rates(self) -> Expected:
        return {}

    @cached_property
    def course(self) -> Course:
        return course.course_of(self.cursor, self.school_id)

    @cached_property
    def standings(self) -> Mapping[str, PlanStanding]:
        """How each student stands to the plan."""
        items = plans.items_that_counted(self.cursor, self.school_id, list(self.figures), self.today)
        return {student: plan_standing(items[student], figures, self.today) for student, figures in self.figures.items()}

    @cached_property
    def ahead(self) -> Mapping[str, Ahead]:
        """What the newest plan of each student with an exam to come says of it."""
        return plans.forecasts(self.cursor, self.school_id, list(self.roster.students), self.now_ms)

    @cached_property
    def ages(self) -> Mapping[str, DataAge]:
        """How old each student's figures are."""
        contacts = roster.last_contacts(self.cursor, self.school_id, [d for f in self.figures.values() for d in f.devices])
        return {
            student: DataAge(
                max((contacts[d] for d in f.devices if d in contacts), default=None), f.last_at_ms, self.behind.get(student, 0)
            )
            for student, f in self.figures.items()
        }

    @cached_property
    def _questions(self) -> list[str]:
        return storage.read_questions(self.cursor, self.school_id, list(self.roster.students))

    def first_answers(self) -> list[FirstAnswers]:
        """The first answers of each student who has answered."""
        return [read_first_answers(document) for document in self._questions]

    def wrong_given(self) -> list[WrongGiven]:
        """The wrong answers of each student who has answered."""
        return [read_wrong_given(document) for document in self._questions]

    def named(self) -> Iterator[tuple[str, str, StudentFigures]]:
        """(student, name, figures), by name."""
        for student, name in self.roster.students.items():
            yield student, name, self.figures[student]

    def _nothing(self) -> StudentFigures:
        return StudentFigures(StudentState(self.engine.rates, self.engine.weights))


def brought_up(cursor: Cursor, school_id: str, class_id: str) -> tuple[Engine, Mapping[str, int]]:
    """Folds what is new as far as that is quick; the engine in force, and the answers of each student that stay uncounted."""
    members, engine = roster.roster_of(cursor, school_id, class_id), engine_of(cursor, school_id)
    return engine, keep_up(cursor, school_id, list(members.students), engine, ANSWERS_WHILE_WAITED_FOR).behind
