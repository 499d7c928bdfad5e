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
    """One rule with all students who have it: `rule_id` is that of one of them; `over` says that it can have no effect any more.

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
    lines = [(_line(found, students, now_ms), kinds.index(kind), day or "") for (kind, _, day), found in alike.items()]
    lines.sort(key=lambda item: (item[0].over, item[1], item[2], item[0].made_at_ms))
    return [line for line, _, _ in lines]


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
    first = min(alike, key=lambda rule: (rule.created_at_ms, rule.id))
    day = date.fromisoformat(first.day) if first.day else None
    over = first.kind == DAY_OFF and day is not None and is_over(day, now_ms)
    makers = ", ".join(dict.fromkeys(rule.created_by for rule in alike if rule.created_by))
    return RuleLine(
        rule_id=first.id,
        says=_BEGINNINGS[first.kind],
        concept=first.concept,
        day=f"on {full_day(day)}" if day else "",
        whom=_whom(alike, students),
        makers=makers,
        made_at_ms=first.created_at_ms,
        until=_until(first.kind, day),
        over=over,
    )


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
