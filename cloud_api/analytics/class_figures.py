"""The figures of a class, table by table, made when they are asked for from the rows of its present students."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cloud_api import audit
from cloud_api.analytics import course, plans, recent, roster
from cloud_api.analytics.course import Course
from cloud_api.analytics.days import day_text
from cloud_api.analytics.question_lists import ItemPage, ItemsWanted, Span, WrongAnswerPage
from cloud_api.analytics.reading import Reading, brought_up
from cloud_api.analytics.roster import ClassSize
from cloud_api.analytics.rows import (
    ConceptColumn,
    CurveRow,
    DayRow,
    GroupRow,
    Help,
    ItemRow,
    OffPlanRow,
    Overview,
    ReachRow,
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
from domain.learning.analytics.heat_map import Cell, topic_cell
from domain.learning.analytics.items import item_figures, median_times
from domain.learning.analytics.needs_help import Reason, reasons
from domain.learning.analytics.plan_standing import IDLE_WINDOW_DAYS
from domain.learning.analytics.reach import coverage, out_of_reach
from domain.learning.analytics.student import StudentFigures
from domain.learning.analytics.wrong_answers import common_wrong_answers

STUDENT_READ = "student.read"
_ALL, _EVERYTHING = ItemsWanted(), Span()


class ClassFigures:
    """Reads the figures of classes. Every method opens its own transactions and raises NotFound for a class that is not there.

    Who may ask is the caller's business. The students' rows are brought up to date first, as far as that is quick; `DataAge.uncounted` tells the rest.
    Concepts and topics come in the order of teaching.
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
            known, rows = of.course, _student_rows(of)
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
        with self._open(school_id, class_id) as of:
            return _in_need(of)

    def items(self, school_id: str, class_id: str, wanted: ItemsWanted = _ALL, span: Span = _EVERYTHING) -> ItemPage:
        """Item analysis: of the questions wanted, in the order wanted, those within the span."""
        with self._open(school_id, class_id) as of:
            return _item_page(of, _asked_about(of, wanted), wanted, span)

    def wrong_answers(self, school_id: str, class_id: str, span: Span = _EVERYTHING) -> WrongAnswerPage:
        """Common wrong answers, those given with confidence first."""
        with self._open(school_id, class_id) as of:
            return _wrong_answer_page(of, None, span)

    def questions(self, school_id: str, class_id: str, wanted: ItemsWanted, items: Span, wrong: Span) -> tuple[ItemPage, WrongAnswerPage]:
        """Both of these from one reading."""
        with self._open(school_id, class_id) as of:
            about = _asked_about(of, wanted)
            return _item_page(of, about, wanted, items), _wrong_answer_page(of, about, wrong)

    def time(self, school_id: str, class_id: str) -> list[TimeRow]:
        """Time on task against plan, by name, with the days of the last four weeks."""
        with self._open(school_id, class_id) as of:
            return _time_rows(of)

    def curves(self, school_id: str, class_id: str) -> list[CurveRow]:
        """A learning curve for each concept with enough students, flat ones first."""
        with self._open(school_id, class_id) as of:
            return _curve_rows(of)

    def practice(self, school_id: str, class_id: str) -> tuple[list[TimeRow], list[CurveRow]]:
        """Both of these from one reading."""
        with self._open(school_id, class_id) as of:
            return _time_rows(of), _curve_rows(of)

    def groups(self, school_id: str, class_id: str) -> list[GroupRow]:
        """Groups by a prerequisite that their members lack, largest first."""
        with self._open(school_id, class_id) as of:
            return _group_rows(of)

    def off_plan(self, school_id: str, class_id: str) -> list[OffPlanRow]:
        """Students who are off their plan, those most behind first."""
        with self._open(school_id, class_id) as of:
            return _off_plan_rows(of)

    def out_of_reach(self, school_id: str, class_id: str) -> list[ReachRow]:
        """Topics that plans for an exam to come do not reach, those of most students first."""
        with self._open(school_id, class_id) as of:
            return _reach_rows(of)

    def help(self, school_id: str, class_id: str) -> Help:
        """All that asks for somebody's help, from one reading."""
        with self._open(school_id, class_id) as of:
            return Help(_in_need(of), _group_rows(of), _off_plan_rows(of), _reach_rows(of), len(of.ahead))

    def student(self, school_id: str, class_id: str, student_id: str, actor: str) -> StudentDetail:
        """One student of the class. The read is written into the audit log under `actor`. Raises NotFound for a student of another class."""
        with self._open(school_id, class_id) as of:
            if student_id not in of.roster.students:
                raise NotFound("There is no such student in the class.")
            figures = of.figures[student_id]
            (row,) = _student_rows(of, (student_id,))
            detail = StudentDetail(
                row,
                of.course.titles,
                _reasons(of, (student_id,))[student_id],
                of.standings[student_id],
                _days(figures, of.today),
                recent.recent_attempts(of.cursor, school_id, student_id),
                plans.coming_items(of.cursor, school_id, student_id, figures, of.now_ms),
                coverage(row.cells, of.course.weights),
                _learnt_share(of, student_id),
            )
        self._note_read(school_id, student_id, actor)
        return detail

    def _note_read(self, school_id: str, student_id: str, actor: str) -> None:
        entry, now_ms = self._ids.new(), self._clock.now_ms()
        write: Callable[[Cursor], None] = lambda cursor: audit.record(cursor, school_id, entry, now_ms, actor, STUDENT_READ, student_id)  # noqa: E731
        self._database.retrying(write, school=school_id)

    @contextmanager
    def _open(self, school_id: str, class_id: str) -> Iterator[Reading]:
        """The class at one moment of the database, its students' rows brought up to date beforehand."""
        now_ms = self._clock.now_ms()
        engine, behind = self._database.retrying(lambda cursor: brought_up(cursor, school_id, class_id), school=school_id)
        with self._database.transaction(snapshot=True, school=school_id) as cursor:
            yield Reading(cursor, school_id, roster.roster_of(cursor, school_id, class_id), engine, behind, now_ms)


def _student_rows(of: Reading, only: Iterable[str] | None = None) -> list[StudentRow]:
    known = of.course
    rows = []
    for student in of.roster.students if only is None else only:
        met = of.cells_of(student)
        cells = {concept: met[concept] for concept in known.concepts if concept in met}
        rows.append(StudentRow(student, of.roster.students[student], of.ages[student], cells, _topic_cells(known, cells)))
    return rows


def _topic_cells(known: Course, cells: Mapping[str, Cell]) -> dict[str, Cell]:
    met = {topic: [cells[c] for c in inside if c in cells] for topic, inside in known.concepts_of.items()}
    return {topic: topic_cell(of_topic) for topic, of_topic in met.items() if of_topic}


def _columns(known: Course, met: set[str]) -> dict[str, None]:
    """The concepts that were met and those beside them in a topic."""
    topics = {topic for concept in met for topic in known.concepts[concept].topic_ids}
    return dict.fromkeys(c for c, concept in known.concepts.items() if c in met or not topics.isdisjoint(concept.topic_ids))


def _in_need(of: Reading) -> list[StudentInNeed]:
    found = _reasons(of)
    needy = [StudentInNeed(student, name, found[student], of.ages[student]) for student, name, _ in of.named() if found[student]]
    return sorted(needy, key=lambda n: -len(n.reasons))


def _reasons(of: Reading, only: Iterable[str] | None = None) -> dict[str, list[Reason]]:
    timed = {question for figures in of.figures.values() for question, _ in figures.pace}
    medians, titles = median_times(of.first_answers(), timed), of.course.titles
    return {
        student: reasons(of.figures[student], titles, of.standings[student], _learnt_share(of, student), medians, of.now_ms)
        for student in (of.figures if only is None else only)
    }


def _learnt_share(of: Reading, student: str) -> float | None:
    return of.ahead[student].learnt_share if student in of.ahead else None


def _reach_rows(of: Reading) -> list[ReachRow]:
    names, topics = of.roster.students, of.course.topics
    found = out_of_reach({student: ahead.left_out for student, ahead in of.ahead.items()}, of.course.concepts_in)
    return [ReachRow(topics[topic.topic_id].title, [names[s] for s in topic.students], topic) for topic in found]


def _time_rows(of: Reading) -> list[TimeRow]:
    return [TimeRow(s, name, of.standings[s], _days(figures, of.today), of.ages[s]) for s, name, figures in of.named()]


def _curve_rows(of: Reading) -> list[CurveRow]:
    titles, students = of.course.titles, list(of.figures.values())
    curves = [learning_curve(c, [f.concepts[c].curve for f in students if c in f.concepts]) for c in titles]
    return [CurveRow(titles[c.concept_id], c) for c in sorted(curves, key=lambda c: not c.flat) if c.points]


def _group_rows(of: Reading) -> list[GroupRow]:
    known, needs = of.course, course.prerequisites_of(of.cursor, of.school_id)
    present = {t: [n for n in needed if n in known.topics] for t, needed in needs.items() if t in known.topics}
    names = of.roster.students
    return [
        GroupRow(known.topics[g.topic_id].title, [known.topics[t].title for t in g.waiting], [names[m.student_id] for m in g.members], g)
        for g in groups({s: of.cells_of(s) for s in names}, known.concepts_of, present)
    ]


def _off_plan_rows(of: Reading) -> list[OffPlanRow]:
    off = [OffPlanRow(s, name, of.standings[s], of.ages[s]) for s, name, _ in of.named() if of.standings[s].off_plan]
    return sorted(off, key=lambda row: -row.standing.behind_minutes)


def _item_page(of: Reading, about: Collection[str] | None, wanted: ItemsWanted, span: Span) -> ItemPage:
    figures = item_figures(of.first_answers(), about)
    flagged = sum(bool(item.flags) for item in figures)
    chosen = wanted.choose(figures)
    shown = span.of(chosen)
    stems = course.stems_of(of.cursor, of.school_id, [item.question_id for item in shown])
    rows = [ItemRow(stems.get(item.question_id, ""), item) for item in shown]
    return ItemPage(len(chosen), rows, span.offset, len(figures), flagged)


def _wrong_answer_page(of: Reading, about: Collection[str] | None, span: Span) -> WrongAnswerPage:
    found = common_wrong_answers(of.wrong_given(), about)
    shown = span.of(found)
    stems = course.stems_of(of.cursor, of.school_id, {wrong.question_id for wrong in shown})
    return WrongAnswerPage(len(found), [WrongAnswerRow(stems.get(wrong.question_id, ""), wrong) for wrong in shown], span.offset)


def _asked_about(of: Reading, wanted: ItemsWanted) -> frozenset[str] | None:
    """The questions asked for; None means all."""
    if wanted.topic_id is None and wanted.concept_id is None:
        return None
    concepts: Sequence[str] = (
        (wanted.concept_id,) if wanted.concept_id is not None else of.course.concepts_of.get(wanted.topic_id or "", ())
    )
    return course.questions_about(of.cursor, of.school_id, concepts)


def _days(figures: StudentFigures, today: int) -> list[DayRow]:
    return [DayRow(day_text(day), figures.days[day]) for day in sorted(figures.days) if day > today - IDLE_WINDOW_DAYS]
