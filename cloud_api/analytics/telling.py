"""Rows of a class's tables made into messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cloud_api.analytics import rows
from cloud_api.analytics.days import day_text
from cloud_api.analytics.messages import (
    AttemptMessage,
    CellMessage,
    ClassMastery,
    ConceptMessage,
    CurveMessage,
    DayMessage,
    FlagMessage,
    GroupMessage,
    ItemMessage,
    MemberMessage,
    NeedMessage,
    OffPlanMessage,
    OptionMessage,
    PlannedMessage,
    PointMessage,
    ReachMessage,
    ReasonMessage,
    StandingMessage,
    StudentFiguresMessage,
    StudentMessage,
    TimeMessage,
    TopicMessage,
    WrongAnswerMessage,
)
from domain.ids import Id, dashed
from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.items import FLAG_SENTENCES
from domain.learning.analytics.needs_help import Reason
from domain.learning.analytics.plan_standing import PlanStanding
from domain.learning.analytics.student import DayFigures


def class_mastery(overview: rows.Overview, offset: int, limit: int) -> ClassMastery:
    """A page of the heat map."""
    return ClassMastery(
        _dashed(overview.class_id),
        overview.name,
        overview.as_of_ms,
        len(overview.students),
        offset,
        [_student(row) for row in overview.students[offset : offset + limit]],
        [ConceptMessage(_dashed(c.id), c.title, _all_dashed(c.topic_ids)) for c in overview.concepts],
        [
            TopicMessage(_dashed(t.id), t.title, _dashed(t.parent_id) if t.parent_id else None, _all_dashed(t.concept_ids))
            for t in overview.topics
        ],
    )


def need(row: rows.StudentInNeed) -> NeedMessage:
    age = row.data_age
    return NeedMessage(_dashed(row.student_id), row.display_name, _reasons(row.reasons), age.last_sync_ms, age.last_answer_at_ms)


def item(row: rows.ItemRow) -> ItemMessage:
    f = row.figures
    options = [OptionMessage(o.given, o.right, o.students, o.share, o.share_top, o.share_bottom) for o in f.options]
    flags = [FlagMessage(flag.value, FLAG_SENTENCES[flag]) for flag in f.flags]
    return ItemMessage(
        _dashed(f.question_id), row.stem, f.students, f.answers, f.facility, f.discrimination, f.median_active_ms, flags, options
    )


def wrong_answer(row: rows.WrongAnswerRow) -> WrongAnswerMessage:
    f = row.figures
    return WrongAnswerMessage(
        _dashed(f.question_id), row.stem, f.given, f.students, f.answered, f.sure, f.share, *(f.interval or (None, None))
    )


def time(row: rows.TimeRow) -> TimeMessage:
    age, days = row.data_age, [_day(d.day, d.figures) for d in row.days]
    return TimeMessage(_dashed(row.student_id), row.display_name, _standing(row.standing), days, age.last_sync_ms, age.last_answer_at_ms)


def curve(row: rows.CurveRow) -> CurveMessage:
    points = [PointMessage(p.opportunity, p.students, p.error, p.stopped, p.stopped_wrong) for p in row.figures.points]
    return CurveMessage(_dashed(row.figures.concept_id), row.title, row.figures.flat, points)


def group(row: rows.GroupRow) -> GroupMessage:
    f = row.figures
    members = [MemberMessage(_dashed(m.student_id), name, m.known, m.met) for m, name in zip(f.members, row.names, strict=True)]
    return GroupMessage(_dashed(f.topic_id), row.title, f.concepts, _all_dashed(f.waiting), row.waiting_titles, members)


def off_plan(row: rows.OffPlanRow) -> OffPlanMessage:
    age = row.data_age
    return OffPlanMessage(_dashed(row.student_id), row.display_name, _standing(row.standing), age.last_sync_ms, age.last_answer_at_ms)


def out_of_reach(row: rows.ReachRow) -> ReachMessage:
    f = row.figures
    return ReachMessage(_dashed(f.topic_id), row.title, f.concepts, f.plans, _all_dashed(f.students), row.names)


def student_figures(detail: rows.StudentDetail) -> StudentFiguresMessage:
    attempts = [
        AttemptMessage(a.at_ms, _dashed(a.question_id), a.stem, a.given, a.correct, a.active_ms, a.confidence, a.purpose)
        for a in detail.attempts
    ]
    days = [_day(d.day, d.figures) for d in detail.days]
    plan = [PlannedMessage(i.day, _dashed(i.concept_id), i.kind, i.minutes, i.reason, i.status) for i in detail.coming]
    return StudentFiguresMessage(
        _student(detail.row),
        _reasons(detail.reasons),
        _standing(detail.standing),
        days,
        attempts,
        plan,
        detail.coverage,
        detail.learnt_share,
    )


def _student(row: rows.StudentRow) -> StudentMessage:
    age = row.data_age
    cells, topics = _cells(row.cells), _cells(row.topic_cells)
    return StudentMessage(_dashed(row.student_id), row.display_name, age.last_sync_ms, age.last_answer_at_ms, age.uncounted, cells, topics)


def _cells(cells: Mapping[str, Cell]) -> list[CellMessage]:
    return [CellMessage(_dashed(key), c.level, c.score, c.answers, c.last_answer_at_ms) for key, c in cells.items()]


def _reasons(reasons: Sequence[Reason]) -> list[ReasonMessage]:
    return [ReasonMessage(r.rule.value, r.sentence, _dashed(r.concept_id) if r.concept_id else None) for r in reasons]


def _standing(s: PlanStanding) -> StandingMessage:
    return StandingMessage(
        s.due_minutes,
        s.done_minutes,
        s.skipped_minutes,
        s.spent_minutes,
        s.behind_minutes,
        s.overdue_items,
        s.idle_planned_days,
        s.off_plan,
        None if s.behind_since is None else day_text(s.behind_since),
    )


def _day(day: str, figures: DayFigures) -> DayMessage:
    return DayMessage(day, *figures)


def _dashed(id_: str) -> str:
    return dashed(Id(id_))


def _all_dashed(ids: Iterable[str]) -> list[str]:
    return [_dashed(id_) for id_ in ids]
