"""The school's word on study plans as a page shows it: rules that say the same for several students are one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

from cloud_api.analytics.course import Course
from cloud_api.pages.classes.words import day_name
from cloud_api.plan_rules import DAY_OFF, EXCLUDE, PIN, PlanRule

# Lines that the page lists; names that a line says.
LINES_MAX, NAMES_MAX = 200, 4
# Where days end last.
_LAST_ZONE = timezone(timedelta(hours=-12))
_BEGINNINGS: Mapping[str, str] = {PIN: "Study", EXCLUDE: "Leave out", DAY_OFF: "No study"}
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule with all students who have it: `rule_id` is that of one of them; `over` says that it can have no effect any more. Days off that follow each
    other, of the same students, are one line: `last_day` is then the last of them, as YYYY-MM-DD.

    `says`, `concept` and `day` are the rule in words, with the concept's title between them; `until` what ends it.
    """

    rule_id: str
    says: str
    concept: str | None
    day: str
    whom: str
    makers: str
    made_at_ms: int
    until: str
    over: bool
    last_day: str = ""

    @property
    def sentence(self) -> str:
        """The whole rule for whoever only hears it."""
        return " ".join(part for part in (self.says, self.concept, self.day, "for", self.whom) if part)


@dataclass(frozen=True, slots=True)
class ConceptGroup:
    """The concepts of one topic itself: (id, title), as they are taught."""

    topic: str
    concepts: Sequence[tuple[str, str]]


def rule_lines(rules: Sequence[PlanRule], students: int, now_ms: int) -> list[RuleLine]:
    """Rules of a class of so many students, or of one student: what is in force first, by day, days that are over last."""
    alike: dict[tuple[str, str | None, str | None], list[PlanRule]] = {}
    for rule in rules:
        alike.setdefault((rule.kind, rule.concept_id, rule.day), []).append(rule)
    kinds = list(_BEGINNINGS)
    found = [of for (kind, _, _), of in alike.items() if kind != DAY_OFF]
    found += _breaks([of for (kind, _, _), of in sorted(alike.items(), key=lambda item: item[0][2] or "") if kind == DAY_OFF], now_ms)
    lines = [(_line(of, students, now_ms), kinds.index(of[0].kind), of[0].day or "") for of in found]
    lines.sort(key=lambda item: (item[0].over, item[1], item[2], item[0].made_at_ms))
    return [line for line, _, _ in lines]


def _breaks(days: Sequence[list[PlanRule]], now_ms: int) -> list[list[PlanRule]]:
    """Days off, each with its rules, in order: those that follow each other for the same students as one, unless some are over and others not."""
    found: list[list[PlanRule]] = []
    for of in days:
        before, day = (found[-1] if found else None), date.fromisoformat(of[0].day or "")
        if before and _goes_on(before, of) and is_over(day, now_ms) == is_over(day - timedelta(days=1), now_ms):
            before.extend(of)
        else:
            found.append(list(of))
    return found


def _goes_on(before: Sequence[PlanRule], of: Sequence[PlanRule]) -> bool:
    """Whether days off are those of the next day for the same students."""
    last = date.fromisoformat(before[-1].day or "")
    same = {rule.student_id for rule in before} == {rule.student_id for rule in of}
    return same and of[0].day == (last + timedelta(days=1)).isoformat()


def concept_groups(course: Course) -> list[ConceptGroup]:
    """Every concept in use under its first topic, topics in the order of teaching; what has no topic comes last."""
    groups: dict[str, list[tuple[str, str]]] = {topic: [] for topic in course.topics}
    loose: list[tuple[str, str]] = []
    for concept, known in course.concepts.items():
        own = [topic for topic in groups if topic in known.topic_ids]
        (groups[own[0]] if own else loose).append((concept, known.title))
    found = [ConceptGroup(course.topics[topic].title, concepts) for topic, concepts in groups.items() if concepts]
    return [*found, *([ConceptGroup("Without a topic", loose)] if loose else [])]


def is_over(day: date, now_ms: int) -> bool:
    """Whether a day has ended everywhere on Earth."""
    return day < datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(_LAST_ZONE).date()


def full_day(day: date) -> str:
    """`Mon 9 Mar 2026`."""
    return f"{_WEEKDAYS[day.weekday()]} {day_name(day.isoformat())} {day.year}"


def _line(alike: Sequence[PlanRule], students: int, now_ms: int) -> RuleLine:
    first = min(alike, key=lambda rule: (rule.day or "", rule.created_at_ms, rule.id))
    day, last = (date.fromisoformat(text) if text else None for text in (first.day, alike[-1].day))
    over = first.kind == DAY_OFF and last is not None and is_over(last, now_ms)
    makers = ", ".join(dict.fromkeys(rule.created_by for rule in alike if rule.created_by))
    return RuleLine(
        rule_id=first.id,
        says=_BEGINNINGS[first.kind],
        concept=first.concept,
        day=_days_in_words(day, last),
        whom=_whom(alike, students),
        makers=makers,
        made_at_ms=min(rule.created_at_ms for rule in alike),
        until=_until(first.kind, day),
        over=over,
        last_day=last.isoformat() if last and last != day else "",
    )


def _days_in_words(day: date | None, last: date | None) -> str:
    if day is None or last is None:
        return ""
    return f"on {full_day(day)}" if day == last else f"from {full_day(day)} to {full_day(last)}"


def _until(kind: str, day: date | None) -> str:
    """What ends a rule, as devices see it (daemon/learning/plan_inputs.py); nothing is said of a day, which ends by itself."""
    if kind == PIN:
        return "it is answered about on that day or later" if day else "it is learnt, and answered about since"
    return "it is taken away" if kind == EXCLUDE else ""


def _whom(alike: Sequence[PlanRule], students: int) -> str:
    """Whom a rule is for: `all 24 students`, or names."""
    names = sorted(rule.student_name for rule in {rule.student_id: rule for rule in alike}.values())
    if len(names) == students and students > 1:
        return f"all {students} students"
    more = len(names) - NAMES_MAX
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:NAMES_MAX])} and {more} more of {students}"
