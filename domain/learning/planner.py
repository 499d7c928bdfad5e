"""The study plan: each day greedily by marginal exam gain a minute (domain/learning/gain.py), then arranged into sittings a student can bear.

What teachers pinned comes first. A concept planned counts as learnt for the rest of the day, and the days after it are planned as if all went
as expected: they are a forecast, made anew each day. What the forecast of the day before had for a day stays there unless something else gains
clearly more. Reviews that are not due fill what time is left, then new concepts get more of it.

Same inputs and version, same plan: no clock, no random, ties by concept id.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

from domain.learning.gain import GAIN_DECIMALS, Course
from domain.learning.memory import Study, student_memory
from domain.learning.plan import (
    GOES_ON,
    HORIZON_DAYS_MAX,
    LEARN_MINUTES,
    MINUTES_A_DAY_MAX,
    NEEDED_FOR_PIN,
    PINNED,
    PLANNER_VERSION,
    REVIEW_MINUTES,
    ConceptNode,
    Forecast,
    Kind,
    Pin,
    Plan,
    PlanItem,
    PlanRequest,
    day_number,
)
from domain.learning.prerequisites import IgnoredPrerequisite
from domain.learning.recall import LEARNT_STREAK, StudyState, recall, stability_after_right, study_states
from domain.learning.sittings import BLOCK_MINUTES_MAX, NEW_IN_A_ROW, DayDraft, in_blocks

# The engine's face: what its callers need of the modules below it.
__all__ = [
    "BLOCK_MINUTES_MAX", "HORIZON_DAYS_MAX", "LEARNT_STREAK", "LEARN_MINUTES", "MINUTES_A_DAY_MAX", "NEW_IN_A_ROW", "PLANNER_VERSION",
    "REVIEW_MINUTES", "ConceptNode", "Forecast", "IgnoredPrerequisite", "Kind", "Pin", "Plan", "PlanItem", "PlanRequest", "Study", "StudyState",
    "best_steps", "make_plan", "recall", "stability_after_right", "student_memory", "study_states",
]  # fmt: skip


def make_plan(concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> Plan:
    """The plan from today to the day before the exam or the end of the horizon, whichever comes first.

    No day holds more than its minutes, and no concept comes before one that it needs. Raises InvalidInput for concepts that cannot be.
    """
    course, pins = Course.of(concepts, states, request), list(request.pinned)
    minutes_left = request.minutes_until_exam()
    items: list[PlanItem] = []
    study_days = list(request.study_days())
    for day, minutes in study_days:
        course.begin_day(minutes_left)
        items += in_blocks(_plan_day(course, pins, day, minutes))
        minutes_left -= minutes
    return Plan(tuple(items), _forecast(course, items, len(study_days)), course.ignored, course.blocked)


def best_steps(concepts: Sequence[ConceptNode], states: Mapping[str, StudyState], request: PlanRequest) -> list[PlanItem]:
    """What would be best to do right now, without a plan, best first; minutes, days off and pins are not asked about."""
    course = Course.of(concepts, states, request)
    course.begin_day(request.minutes_until_exam() or MINUTES_A_DAY_MAX)
    return [course.item(request.today, concept) for _, _, _, concept in course.ranked(course.nodes, request.today)]


def _plan_day(course: Course, pins: list[Pin], day: date, minutes: int) -> list[PlanItem]:
    """What teachers pinned, then by falling gain until the minutes are used.

    Gains only fall within a day, so one that fell since it was ranked is ranked again (lazy greedy).
    """
    draft = DayDraft(minutes, course.request.recaps)
    _take_pins(course, pins, draft, day)
    heap = course.ranked(course.nodes, day)
    while heap and draft.minutes_left:
        ranked = heapq.heappop(heap)
        concept = ranked[-1]
        if course.rank(concept, day) > ranked:
            changed = [concept]
        elif draft.take(course.item(day, concept)):
            changed = course.study(concept, day)
        else:
            _begin(course, draft, course.item(day, concept))
            continue
        for entry in course.ranked(changed, day):
            heapq.heappush(heap, entry)
    draft.stretch()
    return draft.arranged()


def _take_pins(course: Course, pins: list[Pin], draft: DayDraft, day: date) -> None:
    """Take in what is pinned to this day, or to an earlier one and not planned yet, each after what it needs; what does not fit stays in `pins`."""
    for pin in [pin for pin in pins if pin.concept_id in course.nodes and (pin.on is None or pin.on <= day)]:
        for concept in course.path_to(pin.concept_id):
            item = course.item(day, concept)
            why = f"{PINNED}{pin.by}" if concept == pin.concept_id else f"{NEEDED_FOR_PIN}{pin.by} pinned"
            item = replace(item, reason=f"{why}; {item.reason}")
            if not draft.take(item):
                _begin(course, draft, item)
                break
            course.study(concept, day)
        else:
            pins.remove(pin)


def _begin(course: Course, draft: DayDraft, item: PlanItem) -> None:
    """Begin what the rest of the day is too short for; another day goes on with it, if there is one before the exam."""
    last = course.request.coming_exam == item.day + timedelta(days=1)
    part = draft.take_part(item if last else replace(item, reason=item.reason + GOES_ON))
    if part is not None:
        course.begin(part.concept_id, part.minutes)


def _forecast(course: Course, items: Sequence[PlanItem], study_days: int) -> Forecast:
    request, minutes = course.request, sum(item.minutes for item in items)
    end = day_number(request.coming_exam or request.today + timedelta(days=request.horizon_days))
    learnt = sum(course.share[c] for c in sorted(course.learnt))
    recalled = sum(course.share[c] * recall(end - last, stability) for c, (stability, last) in sorted(course.learnt.items()))
    missing = (c for c in course.nodes if c not in course.learnt and c not in request.excluded)
    left_out = tuple(sorted(missing, key=lambda c: (-round(course.share[c], GAIN_DECIMALS), c)))
    a_day = round(minutes / study_days) if study_days else 0
    summary = f"{a_day} minutes a day reach about {100 * recalled:.0f} %; " + (
        f"left out: {len(left_out)}" if left_out else "nothing is left out"
    )
    if request.exam_on is not None and request.coming_exam is None:
        summary += f"; the exam of {request.exam_on.isoformat()} is over"
    return Forecast(minutes, learnt, recalled, left_out, summary)
