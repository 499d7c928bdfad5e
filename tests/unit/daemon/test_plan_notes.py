"""What is stored beside a plan."""

from __future__ import annotations

from datetime import date, timedelta

from daemon.api.schemas.people import DAYS_OFF_MAX
from daemon.api.schemas.study import EXCLUDED_MAX
from daemon.learning.plan_inputs import Wish
from daemon.learning.plan_notes import notes_of
from domain.learning.plan_changes import PlanChange, What
from domain.learning.planner import IgnoredPrerequisite, Kind, PlanRequest
from domain.registry import TABLES
from domain.validation import problem_in

LONGEST_WHY = "you have 10080 minutes a week now, not 10079"


def test_notes_fit_their_column_at_every_maximum_at_once() -> None:
    day, ids = date(2027, 3, 1), [f"{number:032x}" for number in range(2 * EXCLUDED_MAX)]
    wish = Wish(400, frozenset(day + timedelta(days=n) for n in range(DAYS_OFF_MAX)), frozenset(ids[:EXCLUDED_MAX]))
    request = PlanRequest(day, day, (1440,) * 7, 400, wish.days_off, frozenset(ids))
    changes = [PlanChange(one, Kind.REVIEW, What.DROPPED, day, day, LONGEST_WHY) for one in ids]
    ignored = [IgnoredPrerequisite(one, one, "unknown") for one in ids]
    notes = notes_of(wish, request, changes, ignored)
    assert problem_in(TABLES["study_plans"].column("notes"), notes) is None
    assert (len(notes["excluded"]), len(notes["days_off"]), notes["changes_count"]) == (EXCLUDED_MAX, DAYS_OFF_MAX, len(ids))
