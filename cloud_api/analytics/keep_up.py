"""Keeping figures up: attempts above a student's watermark are folded onto what is stored.

A feed number is visible only when all below it are, so nothing is missed and nothing counted twice, however pushes overlap. A late attempt, a question
that got other concepts, another engine: that student's attempts are folded anew. What was counted stays when raw attempts are no longer kept; then a
late one counts at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from cloud_api.analytics import storage
from cloud_api.analytics.engine import Engine, engine_of
from cloud_api.analytics.storage import News, NumberedAnswer, Stored
from cloud_api.database import CloudDatabase, Cursor
from domain.learning.analytics.student import StudentFigures, concepts_checksum, take_in
from domain.learning.features import StudentState

# Answers folded in one transaction by whoever has the time; a student with more is one transaction all the same.
ANSWERS_A_STEP = 20_000
# And while somebody waits for a page: some 50 ms.
ANSWERS_WHILE_WAITED_FOR = 2_000
# Students of one transaction: a year of one student's answers takes some 1 MB of memory.
STUDENTS_A_STEP = 50
# Transactions of one run over a school.
STEPS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class KeptUp:
    """What one step did: students brought up to date, and what is still to be done, by student (answers not counted in)."""

    done: int
    behind: Mapping[str, int] = field(default_factory=dict)


def keep_up(cursor: Cursor, school_id: str, students: Sequence[str], engine: Engine, answers_max: int, *, whole: bool = False) -> KeptUp:
    """Brings the rows of those of the students up to date that need it, as far as `answers_max` answers go, in the caller's transaction.

    `whole`: at least one student, however many answers that takes. Statements do not grow in number with the students.
    """
    questions_no = storage.last_question_change(cursor, school_id)
    found = storage.news(cursor, school_id, students, engine, questions_no)
    if not found:
        return KeptUp(0)
    chosen = _affordable(found, answers_max, whole)
    done = _Step(cursor, school_id, engine, questions_no, answers_max, whole).run(chosen) if chosen else set()
    return KeptUp(len(done), {n.student_id: n.new for n in found if n.student_id not in done})


def keep_up_school(database: CloudDatabase, school_id: str, stopping: Callable[[], bool] = lambda: False) -> KeptUp:
    """Brings a whole school up to date, step by step, each a transaction. Ends early when `stopping()`, or when somebody else is at it."""
    done, behind = 0, {"": 0}
    for _ in range(STEPS_MAX):
        if stopping():
            break
        step = database.retrying(lambda cursor: _step_of_school(cursor, school_id), school=school_id)
        done, behind = done + step.done, dict(step.behind)
        if not step.done or not behind:
            break
    return KeptUp(done, behind)


def recount(database: CloudDatabase, school_id: str) -> int:
    """Makes all figures of a school anew from its attempts; returns the students counted. Of students without stored attempts nothing is kept."""
    database.retrying(lambda cursor: storage.forget_all(cursor, school_id), school=school_id)
    return keep_up_school(database, school_id).done


def _step_of_school(cursor: Cursor, school_id: str) -> KeptUp:
    students = storage.students_of(cursor, school_id)
    return keep_up(cursor, school_id, students, engine_of(cursor, school_id), ANSWERS_A_STEP, whole=True)


def _affordable(found: Sequence[News], answers_max: int, whole: bool) -> list[News]:
    """The students whose answers fit, cheapest first, at most STUDENTS_A_STEP."""
    chosen: list[News] = []
    for one in sorted(found, key=lambda n: (n.cost, n.student_id)):
        if len(chosen) == STUDENTS_A_STEP or (one.cost > answers_max and not (whole and not chosen)):
            break
        chosen.append(one)
        answers_max -= one.cost
    return chosen


@dataclass(slots=True)
class _Step:
    """One transaction's work on some students."""

    cursor: Cursor
    school_id: str
    engine: Engine
    questions_no: int
    answers_max: int
    whole: bool
    rows: dict[str, Stored] = field(default_factory=dict)

    def run(self, chosen: Sequence[News]) -> set[str]:
        """The students brought up to date."""
        students = storage.lock(self.cursor, self.school_id, [n.student_id for n in chosen])
        stored = storage.read(self.cursor, self.school_id, students, self.engine)
        anew = {s for s in students if s not in stored or stored[s].engine != self.engine.version} | self._with_other_concepts(stored)
        anew |= self._go_on({s: stored[s] for s in students if s not in anew})
        self._fold_anew(anew, stored)
        storage.write(self.cursor, self.school_id, self.rows)
        return set(self.rows)

    def _with_other_concepts(self, stored: Mapping[str, Stored]) -> set[str]:
        """Students whose answers were counted under concepts that their questions no longer have."""
        oldest = min((s.questions_no for s in stored.values()), default=self.questions_no)
        if oldest >= self.questions_no:
            return set()
        changed = {q: concepts_checksum(c) for q, c in storage.questions_changed_after(self.cursor, self.school_id, oldest).items()}
        return {
            student
            for student, row in stored.items()
            if any(row.figures.questions[q].concepts != changed[q] for q in changed.keys() & row.figures.questions.keys())
        }

    def _go_on(self, stored: Mapping[str, Stored]) -> set[str]:
        """Folds new answers onto what is stored; returns the students for whom one of them is late."""
        late = set()
        self.rows |= {student: row._replace(questions_no=self.questions_no) for student, row in stored.items()}
        for student, new in storage.answers(self.cursor, self.school_id, {s: row.feed_no for s, row in stored.items()}):
            first = next(new)
            if stored[student].figures.state.precedes(first.answer.attempt):
                self._fold(student, stored[student], chain((first,), new))
            else:
                late.add(student)
                del self.rows[student]
        return late

    def _fold_anew(self, students: set[str], stored: Mapping[str, Stored]) -> None:
        """Folds all answers of students, as far as they can be had and afforded."""
        known = {s: stored[s] for s in students if s in stored}
        raw = storage.count_raw(self.cursor, self.school_id, {s: row.feed_no for s, row in known.items()}) if known else {}
        gone = {s for s, row in known.items() if raw[s] < row.answers}
        after = {s: known[s].feed_no if s in gone else 0 for s in sorted(students) if self._affords(raw.get(s, 0))}
        for student in after:
            if student in gone:
                self.rows[student] = known[student]._replace(engine=self.engine.version, questions_no=self.questions_no)
        for student, all_ in storage.answers(self.cursor, self.school_id, after):
            start = known[student] if student in gone else Stored(0, 0, "", 0, self._empty())
            self._fold(student, start, all_)

    def _affords(self, counted: int) -> bool:
        if counted > self.answers_max and not (self.whole and not self.rows):
            return False
        self.answers_max -= counted
        return True

    def _fold(self, student: str, start: Stored, new: Iterator[NumberedAnswer]) -> None:
        """Takes in answers in their order. One that comes before what cannot be folded anew leaves the place where the fold stands as it is."""
        figures, feed_no, count = start.figures, start.feed_no, start.answers
        for number, answer in new:
            latest = figures.state.latest
            take_in(figures, answer)
            if latest is not None and figures.state.latest is not None and figures.state.latest < latest:
                figures.state.latest = latest
            feed_no, count = max(feed_no, number), count + 1
        self.rows[student] = Stored(feed_no, self.questions_no, self.engine.version, count, figures)

    def _empty(self) -> StudentFigures:
        return StudentFigures(StudentState(self.engine.rates, self.engine.weights))
