"""What answers have done of a plan."""

from __future__ import annotations

import pytest

from domain.learning.plan import GOES_ON, Kind
from domain.learning.plan_progress import Since, done_by_answers
from domain.learning.recall import StudyState

MADE, DAY = 1_000, 5_000
SINCE = Since(MADE, DAY)


@pytest.mark.parametrize(
    ("kind", "state", "done"),
    [
        (Kind.NEW, None, False),
        (Kind.NEW, StudyState(2, 0.0, DAY), False),  # begun
        (Kind.NEW, StudyState(3, 3.0, MADE), True),  # learnt, if need be before its day
        (Kind.NEW, StudyState(3, 3.0, MADE - 1), False),  # known before the plan was made
        (Kind.NEW, StudyState(0, 3.0, DAY), True),  # learnt, and wrong once since
        (Kind.REVIEW, StudyState(4, 5.0, DAY), True),
        (Kind.REVIEW, StudyState(4, 5.0, DAY - 1), False),  # that was another review
        (Kind.REVIEW, StudyState(0, 3.0, DAY), False),  # wrong
        (Kind.REVIEW, StudyState(4, 5.0, None), False),
    ],
)
def test_an_item_is_done_when_its_answers_say_so(kind: Kind, state: StudyState | None, done: bool) -> None:
    assert done_by_answers(kind, state, SINCE) is done


def test_a_plan_made_on_the_day_itself_counts_answers_from_then_on() -> None:
    late = Since(DAY + 100, DAY)
    assert not done_by_answers(Kind.REVIEW, StudyState(4, 5.0, DAY + 50), late)
    assert done_by_answers(Kind.REVIEW, StudyState(4, 5.0, DAY + 100), late)


def test_a_part_of_a_new_concept_is_done_by_any_answer_on_its_day() -> None:
    begun, reason = StudyState(0, 0.0, DAY + 50), "new: 3.0 % of the exam" + GOES_ON
    assert done_by_answers(Kind.NEW, begun, SINCE, reason)
    assert not done_by_answers(Kind.NEW, begun, SINCE, "new: 3.0 % of the exam")
    assert not done_by_answers(Kind.NEW, begun, Since(DAY + 51, DAY), reason)
    assert not done_by_answers(Kind.NEW, None, SINCE, reason)
