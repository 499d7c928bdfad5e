"""The figures of a class, table by table, made when they are asked for from the rows of its present students."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_api import audit
from cloud_api.analytics import course, plans, recent, roster, storage
from cloud_api.analytics.course import Course
from cloud_api.analytics.engine import Engine, engine_of
from cloud_api.analytics.keep_up import ANSWERS_WHILE_WAITED_FOR, keep_up
from cloud_api.analytics.roster import ClassSize, Roster
from cloud_api.analytics.rows import (
    ConceptColumn,
    CurveRow,
    DataAge,
    DayRow,
    GroupRow,
    ItemRow,
    OffPlanRow,
    Overview,
    StudentDetail,
    StudentInNeed,
    StudentRow,
    TimeRow,
    TopicColumn,
    WrongAnswerRow,
)
from cloud_api.database import CloudDatabase, Cursor
from domain.clock import Clock
from domain.errors import NotFound
from domain.ids import IdSource
from domain.learning.analytics.curves import learning_curve
from domain.learning.analytics.groups import groups
from domain.learning.analytics.heat_map import Cell, concept_cells, topic_cell
from domain.learning.analytics.items import item_figures, median_times
from domain.learning.analytics.needs_help import Reason, reasons
from domain.learning.analytics.plan_standing import IDLE_WINDOW_DAYS, PlanStanding, plan_standing
from domain.learning.analytics.student import QuestionFigures, StudentFigures
from domain.learning.analytics.wrong_answers import common_wrong_answers
from domain.learning.attempts import DAY_MS
from domain.learning.features import StudentState

STUDENT_READ = "student.read"


@dataclass(frozen=True, slots=True)
class _Class:
    """What one reading of a class works on: a moment of the database. Students without an answer have empty figures."""

    cursor: Cursor
    school_id: str
    roster: Roster
    figures: Mapping[str, StudentFigures]
    behind: Mapping[str, int]
    now_ms: int

    @property
    def today(self) -> int:
        return self.now_ms // DAY_MS

    def questions(self) -> list[Mapping[str, QuestionFigures]]:
        return [figures.questions for figures in self.figures.values()]

    def course(self) -> Course:
        return course.course_of(self.cursor, self.school_id)

    def standings(self) -> dict[str, PlanStanding]:
        """How each student stands to the plan."""
        items = plans.items_that_counted(self.cursor, self.school_id, list(self.figures), self.today)
        return {student: plan_standing(items[student], figures, self.today) for student, figures in self.figures.items()}

    def named(self) -> Iterator[tuple[str, str, StudentFigures]]:
        """(student, name, figures), by name."""
        for student, name in self.roster.students.items():
            yield student, name, self.figures[student]


class ClassFigures:
    """Reads the figures of classes. Every method opens its own transactions and raises NotFound for a class that is not there.

    Who may ask is the caller's business. The students' rows are brought up to date first, as far as that is quick; `DataAge.uncounted` tells the rest.
    """

    def __init__(self, database: CloudDatabase, clock: Clock, ids: IdSource) -> None:
        self._database, self._clock, self._ids = database, clock, ids

    def classes(self, school_id: str, only: Collection[str] | None = None) -> list[ClassSize]:
        """The school's classes, or those of them in `only`."""
        with self._database.transaction(read_only=True, school=school_id) as cursor:
            return roster.class_sizes(cursor, school_id, only)

    def overview(self, school_id: str, class_id: str) -> Overview:
        """The heat map."""
        with self._open(school_id, class_id) as of:
            known = of.course()
            rows = _student_rows(of, known)
        columns = _columns(known, {concept for row in rows for concept in row.cells})
        concepts = [ConceptColumn(c, known.concepts[c].title, known.concepts[c].topic_ids) for c in columns]
        topics = [
            TopicColumn(topic, known.topics[topic].title, known.topics[topic].parent_id, inside)
            for topic, all_ in known.concepts_of.items()
            if (inside := tuple(c for c in all_ if c in columns))
        ]
        return Overview(class_id, of.roster.name, of.now_ms, rows, concepts, topics)

    def needs_help(self, school_id: str, class_id: str) -> list[StudentInNeed]:
        """Students for whom a rule applies, those with most reasons first."""
        with self._open(school_id, class_id, questions=True) as of:
            found = _reasons(of, of.course(), of.standings())
        needy = [StudentInNeed(student, name, found[student]) for student, name, _ in of.named() if found[student]]
        return sorted(needy, key=lambda n: -len(n.reasons))

    def items(self, school_id: str, class_id: str, topic_id: str | None = None, concept_id: str | None = None) -> list[ItemRow]:
        """Item analysis, of all questions or of those of a topic or concept; flagged ones first, then the hardest."""
        with self._open(school_id, class_id, questions=True) as of:
            return _item_rows(of, topic_id, concept_id)

    def wrong_answers(self, school_id: str, class_id: str) -> list[WrongAnswerRow]:
        """Common wrong answers, those given with confidence first."""
        with self._open(school_id, class_id, questions=True) as of:
            return _wrong_answer_rows(of)

    def questions(self, school_id: str, class_id: str, topic_id: str | None = None) -> tuple[list[ItemRow], list[WrongAnswerRow]]:
        """Both of these from one reading, of a topic or of all."""
        with self._open(school_id, class_id, questions=True) as of:
            items, wrong = _item_rows(of, topic_id, None), _wrong_answer_rows(of)
        about = {row.figures.question_id for row in items}
        return items, [row for row in wrong if row.figures.question_id in about]

    def time(self, school_id: str, class_id: str) -> list[TimeRow]:
        """Time on task against plan, by name, with the days of the last four weeks."""
        with self._open(school_id, class_id) as of:
            standings = of.standings()
        return [TimeRow(student, name, standings[student], _days(figures, of.today)) for student, name, figures in of.named()]

    def curves(self, school_id: str, class_id: str) -> list[CurveRow]:
        """A learning curve for each concept with enough students, flat ones first."""
        with self._open(school_id, class_id) as of:
            titles = of.course().titles
        met = {concept for figures in of.figures.values() for concept in figures.concepts if concept in titles}
        curves = [
            learning_curve(concept, [f.concepts[concept].curve for f in of.figures.values() if concept in f.concepts])
            for concept in sorted(met, key=lambda c: (titles[c], c))
        ]
        return [CurveRow(titles[c.concept_id], c) for c in sorted(curves, key=lambda c: not c.flat) if c.points]

    def groups(self, school_id: str, class_id: str) -> list[GroupRow]:
        """Groups by a prerequisite that their members lack, largest first."""
        with self._open(school_id, class_id) as of:
            known, needs = of.course(), course.prerequisites_of(of.cursor, school_id)
        cells = {student: concept_cells(figures.state, of.now_ms) for student, figures in of.figures.items()}
        present = {t: [n for n in needed if n in known.topics] for t, needed in needs.items() if t in known.topics}
        names = of.roster.students
        return [
            GroupRow(
                known.topics[g.topic_id].title, [known.topics[t].title for t in g.waiting], [names[m.student_id] for m in g.members], g
            )
            for g in groups(cells, known.concepts_of, present)
        ]

    def off_plan(self, school_id: str, class_id: str) -> list[OffPlanRow]:
        """Students who are off their plan, those most behind first."""
        with self._open(school_id, class_id) as of:
            standings = of.standings()
        off = [OffPlanRow(student, name, standings[student]) for student, name, _ in of.named() if standings[student].off_plan]
        return sorted(off, key=lambda row: -row.standing.behind_minutes)

    def student(self, school_id: str, class_id: str, student_id: str, actor: str) -> StudentDetail:
        """One student of the class. The read is written into the audit log under `actor`. Raises NotFound for a student of another class."""
        with self._open(school_id, class_id, questions=True) as of:
            if student_id not in of.roster.students:
                raise NotFound("There is no such student in the class.")
            known, standings = of.course(), of.standings()
            detail = StudentDetail(
                next(row for row in _student_rows(of, known, (student_id,))),
                known.titles,
                _reasons(of, known, standings, (student_id,))[student_id],
                standings[student_id],
                _days(of.figures[student_id], of.today),
                recent.recent_attempts(of.cursor, school_id, student_id),
                plans.coming_items(of.cursor, school_id, student_id, of.today),
            )
        self._note_read(school_id, student_id, actor)
        return detail

    def _note_read(self, school_id: str, student_id: str, actor: str) -> None:
        entry, now_ms = self._ids.new(), self._clock.now_ms()
        write: Callable[[Cursor], None] = lambda cursor: audit.record(cursor, school_id, entry, now_ms, actor, STUDENT_READ, student_id)  # noqa: E731
        self._database.retrying(write, school=school_id)

    @contextmanager
    def _open(self, school_id: str, class_id: str, *, questions: bool = False) -> Iterator[_Class]:
        """The class at one moment of the database, its students' rows brought up to date beforehand."""
        now_ms = self._clock.now_ms()
        engine, behind = self._database.retrying(lambda cursor: _brought_up(cursor, school_id, class_id), school=school_id)
        with self._database.transaction(snapshot=True, school=school_id) as cursor:
            members = roster.roster_of(cursor, school_id, class_id)
            stored = storage.read(cursor, school_id, list(members.students), engine, questions=questions)
            figures = {student: stored[student].figures if student in stored else _nothing(engine) for student in members.students}
            yield _Class(cursor, school_id, members, figures, behind, now_ms)


def _brought_up(cursor: Cursor, school_id: str, class_id: str) -> tuple[Engine, Mapping[str, int]]:
    """Folds what is new as far as that is quick; the engine in force, and the answers of each student that stay uncounted."""
    members, engine = roster.roster_of(cursor, school_id, class_id), engine_of(cursor, school_id)
    return engine, keep_up(cursor, school_id, list(members.students), engine, ANSWERS_WHILE_WAITED_FOR).behind


def _nothing(engine: Engine) -> StudentFigures:
    return StudentFigures(StudentState(engine.rates, engine.weights))


def _student_rows(of: _Class, known: Course, only: Iterable[str] | None = None) -> list[StudentRow]:
    wanted = of.roster.students.keys() if only is None else only
    contacts = roster.last_contacts(of.cursor, of.school_id, [d for s in wanted for d in of.figures[s].devices])
    rows = []
    for student in wanted:
        figures = of.figures[student]
        cells = {concept: cell for concept, cell in concept_cells(figures.state, of.now_ms).items() if concept in known.concepts}
        last_sync_ms = max((contacts[d] for d in figures.devices if d in contacts), default=None)
        age = DataAge(last_sync_ms, figures.last_at_ms, of.behind.get(student, 0))
        rows.append(StudentRow(student, of.roster.students[student], age, cells, _topic_cells(known, cells)))
    return rows


def _topic_cells(known: Course, cells: Mapping[str, Cell]) -> dict[str, Cell]:
    met = {topic: [cells[c] for c in inside if c in cells] for topic, inside in known.concepts_of.items()}
    return {topic: topic_cell(of_topic) for topic, of_topic in met.items() if of_topic}


def _columns(known: Course, met: set[str]) -> dict[str, None]:
    """The concepts that were met and those beside them in a topic, in the order of topics."""
    topics = {topic for concept in met for topic in known.concepts[concept].topic_ids}
    beside = {c for c, concept in known.concepts.items() if c in met or not topics.isdisjoint(concept.topic_ids)}
    ordered = [c for inside in known.concepts_of.values() for c in inside if c in beside]
    return dict.fromkeys([*ordered, *sorted(beside)])


def _reasons(
    of: _Class, known: Course, standings: Mapping[str, PlanStanding], only: Iterable[str] | None = None
) -> dict[str, list[Reason]]:
    shares = plans.learnt_shares(of.cursor, of.school_id, list(of.figures), of.today)
    medians, titles = median_times(of.questions()), known.titles
    return {
        student: reasons(of.figures[student], titles, standings[student], shares.get(student), medians, of.now_ms)
        for student in (of.figures if only is None else only)
    }


def _item_rows(of: _Class, topic_id: str | None, concept_id: str | None) -> list[ItemRow]:
    figures = item_figures(of.questions(), _only(of, topic_id, concept_id))
    stems = course.stems_of(of.cursor, of.school_id, [item.question_id for item in figures])
    ordered = sorted(figures, key=lambda i: (-len(i.flags), 1.0 if i.facility is None else i.facility, i.question_id))
    return [ItemRow(stems.get(item.question_id, ""), item) for item in ordered]


def _wrong_answer_rows(of: _Class) -> list[WrongAnswerRow]:
    found = common_wrong_answers(of.questions())
    stems = course.stems_of(of.cursor, of.school_id, {wrong.question_id for wrong in found})
    return [WrongAnswerRow(stems.get(wrong.question_id, ""), wrong) for wrong in found]


def _only(of: _Class, topic_id: str | None, concept_id: str | None) -> frozenset[str] | None:
    """The questions asked for; None means all."""
    if topic_id is None and concept_id is None:
        return None
    concepts = {concept_id} if concept_id is not None else set(of.course().concepts_of.get(topic_id or "", ()))
    return course.questions_about(of.cursor, of.school_id, {c for c in concepts if c})


def _days(figures: StudentFigures, today: int) -> list[DayRow]:
    return [DayRow(plans.day_text(day), figures.days[day]) for day in sorted(figures.days) if day > today - IDLE_WINDOW_DAYS]
