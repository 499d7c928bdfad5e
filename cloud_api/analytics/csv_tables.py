"""Every table of a class as CSV, for spreadsheets: UTF-8 with a byte order mark, so that Excel reads names right; times in UTC, ISO 8601."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cloud_api.analytics import rows
from cloud_api.analytics.days import day_text
from domain.ids import Id, dashed
from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.plan_standing import MINUTE_MS, PlanStanding

Value = str | int | float | bool | None
BYTE_ORDER_MARK = "\ufeff"
# A spreadsheet takes text that begins so for a formula and runs it (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Table(NamedTuple):
    """A heading and its lines."""

    heading: Sequence[str]
    lines: list[Sequence[Value]]


def write_csv(table: Table) -> str:
    """The table as CSV (RFC 4180). Text that a spreadsheet would run begins with an apostrophe; numbers stay numbers."""
    out = io.StringIO()
    out.write(BYTE_ORDER_MARK)
    writer = csv.writer(out)
    writer.writerow(table.heading)
    writer.writerows([_defused(value) for value in line] for line in table.lines)
    return out.getvalue()


def _defused(value: Value) -> Value:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS):
        return f"'{value}"
    return value


_WHO = ("student_id", "student", "last_sync", "last_answer")
_STANDING = (
    "due_minutes",
    "done_minutes",
    "skipped_minutes",
    "spent_minutes",
    "behind_minutes",
    "overdue_items",
    "idle_planned_days",
    "behind_since",
)


def mastery(overview: rows.Overview) -> Table:
    """A line for each student and concept with an answer, concepts as they are taught."""
    titles = {concept.id: concept.title for concept in overview.concepts}
    lines = [line for row in overview.students for line in _cells(row, titles)]
    return Table(
        ("student_id", "student", "last_sync", "uncounted_answers", "concept_id", "concept", "level", "score", "answers", "last_answer"),
        lines,
    )


def _cells(row: rows.StudentRow, titles: dict[str, str]) -> Iterable[Sequence[Value]]:
    age = row.data_age
    who: tuple[Value, ...] = (_dashed(row.student_id), row.display_name, _time(age.last_sync_ms), age.uncounted)
    return [(*who, _dashed(concept), titles.get(concept, ""), *_cell(cell)) for concept, cell in row.cells.items()]


def _cell(cell: Cell) -> tuple[Value, ...]:
    return cell.level.value, cell.score, cell.answers, _time(cell.last_answer_at_ms)


def needs_help(found: Iterable[rows.StudentInNeed]) -> Table:
    """A line for each reason."""
    lines: list[Sequence[Value]] = [
        (*_who(row), r.rule.value, r.sentence, _dashed(r.concept_id) if r.concept_id else None) for row in found for r in row.reasons
    ]
    return Table((*_WHO, "rule", "sentence", "concept_id"), lines)


def items(found: Iterable[rows.ItemRow]) -> Table:
    """A line for each question and answer that was given first; a question that nobody gave an answer in words has one without."""
    lines: list[Sequence[Value]] = []
    for row in found:
        f = row.figures
        question = (_dashed(f.question_id), row.stem, f.students, f.answers, f.facility, f.discrimination, _seconds(f.median_active_ms))
        flags = " ".join(flag.value for flag in f.flags)
        options: list[Sequence[Value]] = [(o.given, o.right, o.students, o.share, o.share_top, o.share_bottom) for o in f.options]
        lines += [(*question, flags, *option) for option in _or_blank(options, 6)]
    heading = ("question_id", "question", "students", "answers", "facility", "discrimination", "median_s", "flags")
    return Table((*heading, "given", "right", "given_by", "share", "share_top_third", "share_bottom_third"), lines)


def wrong_answers(found: Iterable[rows.WrongAnswerRow]) -> Table:
    """A line for each common wrong answer."""
    lines: list[Sequence[Value]] = [
        (_dashed(f.question_id), row.stem, f.given, f.students, f.answered, f.sure, f.share, *(f.interval or (None, None)))
        for row in found
        for f in (row.figures,)
    ]
    return Table(("question_id", "question", "given", "students", "answered", "sure", "share", "low_95", "high_95"), lines)


def time(found: Iterable[rows.TimeRow]) -> Table:
    """A line for each student and day with an answer, with the student's standing to the plan."""
    lines: list[Sequence[Value]] = []
    for row in found:
        who: tuple[Value, ...] = (*_who(row), *_standing(row.standing))
        days: list[Sequence[Value]] = [
            (d.day, round(f.active_ms / MINUTE_MS, 1), f.answers, f.right, f.proficient) for d in row.days for f in (d.figures,)
        ]
        lines += [(*who, *day) for day in _or_blank(days, 5)]
    return Table((*_WHO, *_STANDING, "day", "minutes", "answers", "right", "proficient_concepts"), lines)


def curves(found: Iterable[rows.CurveRow]) -> Table:
    """A line for each point of each curve."""
    lines: list[Sequence[Value]] = [
        (_dashed(row.figures.concept_id), row.title, row.figures.flat, p.opportunity, p.students, p.error, p.stopped, p.stopped_wrong)
        for row in found
        for p in row.figures.points
    ]
    return Table(("concept_id", "concept", "flat", "opportunity", "students", "error", "stopped", "stopped_wrong"), lines)


def groups(found: Iterable[rows.GroupRow]) -> Table:
    """A line for each member of each group."""
    lines: list[Sequence[Value]] = [
        (_dashed(g.topic_id), row.title, "; ".join(row.waiting_titles), _dashed(m.student_id), name, m.known, m.met, g.concepts)
        for row in found
        for g in (row.figures,)
        for m, name in zip(g.members, row.names, strict=True)
    ]
    return Table(("topic_id", "topic", "needed_by", "student_id", "student", "concepts_known", "concepts_met", "concepts"), lines)


def off_plan(found: Iterable[rows.OffPlanRow]) -> Table:
    """A line for each student off plan."""
    lines: list[Sequence[Value]] = [(*_who(row), *_standing(row.standing)) for row in found]
    return Table((*_WHO, *_STANDING), lines)


def out_of_reach(found: Iterable[rows.ReachRow]) -> Table:
    """A line for each topic and student whose plan leaves it out."""
    lines: list[Sequence[Value]] = [
        (_dashed(f.topic_id), row.title, f.concepts, f.plans, len(f.students), _dashed(student), name)
        for row in found
        for f in (row.figures,)
        for student, name in zip(f.students, row.names, strict=True)
    ]
    return Table(("topic_id", "topic", "concepts", "plans_for_an_exam", "plans_without_it", "student_id", "student"), lines)


def student(detail: rows.StudentDetail) -> Table:
    """The latest attempts of one student."""
    lines: list[Sequence[Value]] = [
        (_time(a.at_ms), _dashed(a.question_id), a.stem, a.given, a.correct, _seconds(a.active_ms), a.confidence, a.purpose)
        for a in detail.attempts
    ]
    return Table(("at", "question_id", "question", "given", "correct", "active_s", "confidence", "purpose"), lines)


def _who(row: rows.StudentInNeed | rows.TimeRow | rows.OffPlanRow) -> tuple[Value, ...]:
    age = row.data_age
    return _dashed(row.student_id), row.display_name, _time(age.last_sync_ms), _time(age.last_answer_at_ms)


def _or_blank(lines: list[Sequence[Value]], width: int) -> list[Sequence[Value]]:
    blank: Sequence[Value] = (None,) * width
    return lines or [blank]


def _standing(s: PlanStanding) -> tuple[Value, ...]:
    return (
        s.due_minutes, s.done_minutes, s.skipped_minutes, s.spent_minutes, s.behind_minutes, s.overdue_items, s.idle_planned_days,
        None if s.behind_since is None else day_text(s.behind_since),
    )  # fmt: skip


def _time(at_ms: int | None) -> str | None:
    """ISO 8601 in UTC. A device's clock may have said anything; what no calendar holds is left out."""
    try:
        return None if at_ms is None else datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else round(ms / 1000, 1)


def _dashed(id_: str) -> str:
    return dashed(Id(id_))
