"""Who needs help, and by which rule: every reason has a name and a sentence, so that a teacher can disagree with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.learning.analytics.plan_standing import PlanStanding
from domain.learning.analytics.student import PROFICIENT_RANK, ConceptFigures, StudentFigures
from domain.learning.attempts import DAY_MS
from domain.learning.levels import SCALE

STUCK_ANSWERS_MIN, WRONG_RUN_MIN = 10, 4
IDLE_PLANNED_DAYS_MIN = 7
# Share of the exam's weight that a plan should reach.
FORECAST_SHARE_MIN = 0.60
# A rapid guess takes less than a second, or less than this share of the question's median time; so many timed answers are needed to speak of a share.
RAPID_MS, RAPID_SHARE_OF_MEDIAN = 1_000, 0.10
GUESSES_SHARE_MIN, PACE_ANSWERS_MIN = 0.25, 10
# What happened longer ago is no news.
RECENT_MS = 28 * DAY_MS


class Rule(StrEnum):
    """Why a student may need help."""

    STUCK = "ten_answers_without_three_right"
    WRONG = "four_wrong_in_a_row"
    FELL = "fell_a_level"
    IDLE = "idle_on_planned_days"
    FORECAST = "forecast_under_target"
    GUESSES = "rapid_guesses"


RULE_SENTENCES = {
    Rule.STUCK: f"{STUCK_ANSWERS_MIN} answers about a concept without three right in a row",
    Rule.WRONG: f"{WRONG_RUN_MIN} wrong answers in a row about a concept",
    Rule.FELL: "answers of the last four weeks took a concept down from proficient or mastered",
    Rule.IDLE: f"no answer on the last {IDLE_PLANNED_DAYS_MIN} planned days",
    Rule.FORECAST: f"the plan reaches less than {FORECAST_SHARE_MIN:.0%} of the exam",
    Rule.GUESSES: f"more than {GUESSES_SHARE_MIN:.0%} of the latest answers were rapid guesses",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule that applies, in a sentence; `concept_id` where it is about one."""

    rule: Rule
    sentence: str
    concept_id: str | None = None


def reasons(
    figures: StudentFigures,
    titles: Mapping[str, str],
    standing: PlanStanding,
    learnt_share: float | None,
    medians: Mapping[str, int],
    at_ms: int,
) -> list[Reason]:
    """The reasons to help a student, as of `at_ms`, those about concepts first, in the order of `titles`.

    `titles` names the concepts that count (others are passed over), `learnt_share` is the newest plan's forecast where it is one of an exam, `medians` the usual time of
    each question in milliseconds.
    """
    found = []
    for concept in (c for c in titles if c in figures.concepts):
        last_ms = figures.state.concepts[concept].last_at_ms
        if last_ms is not None and at_ms - last_ms <= RECENT_MS:
            found += [Reason(rule, text, concept) for rule, text in _of_concept(figures.concepts[concept], titles[concept], at_ms)]
    found += [Reason(rule, text) for rule, text in _of_plan(standing, learnt_share)]
    guesses = guesses_share(figures.pace, medians)
    if guesses is not None and guesses > GUESSES_SHARE_MIN:
        found.append(Reason(Rule.GUESSES, f"{guesses:.0%} of the latest {len(figures.pace)} timed answers were rapid guesses."))
    return found


def guesses_share(pace: Sequence[tuple[str, int]], medians: Mapping[str, int]) -> float | None:
    """The share of rapid guesses among the latest timed answers; None of fewer than PACE_ANSWERS_MIN."""
    if len(pace) < PACE_ANSWERS_MIN:
        return None
    rapid = sum(ms < max(RAPID_MS, RAPID_SHARE_OF_MEDIAN * medians.get(question, 0)) for question, ms in pace)
    return rapid / len(pace)


def _of_concept(known: ConceptFigures, title: str, at_ms: int) -> Iterator[tuple[Rule, str]]:
    if known.run_wrong >= WRONG_RUN_MIN:
        yield Rule.WRONG, f"{title}: {known.run_wrong} wrong answers in a row."
    elif known.unsettled >= STUCK_ANSWERS_MIN:
        yield Rule.STUCK, f"{title}: {known.unsettled} answers without three right in a row."
    if known.fell_from >= PROFICIENT_RANK and known.fell_at_ms is not None and at_ms - known.fell_at_ms <= RECENT_MS:
        yield Rule.FELL, f"{title}: fell from {SCALE[known.fell_from].value} to {SCALE[max(known.shown, 0)].value}."


def _of_plan(standing: PlanStanding, learnt_share: float | None) -> Iterator[tuple[Rule, str]]:
    if standing.idle_planned_days >= IDLE_PLANNED_DAYS_MIN:
        yield Rule.IDLE, f"No answer on {standing.idle_planned_days} planned days."
    if learnt_share is not None and learnt_share < FORECAST_SHARE_MIN:
        yield Rule.FORECAST, f"The plan reaches about {learnt_share:.0%} of the exam."
