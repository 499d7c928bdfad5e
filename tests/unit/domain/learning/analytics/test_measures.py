"""The statistics, against figures worked out elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from domain.learning.analytics.answered import Answered, FirstAnswers, WrongGiven, in_columns
from domain.learning.analytics.curves import learning_curve
from domain.learning.analytics.items import Flag, ItemFigures, item_figures, median_times
from domain.learning.analytics.measures import correlation, median, share, wilson
from domain.learning.analytics.student import QuestionFigures, WrongAnswer
from domain.learning.analytics.wrong_answers import common_wrong_answers


def asked(right: bool, given: str | None = "", wrong: tuple[WrongAnswer, ...] = (), active_ms: int | None = None) -> QuestionFigures:
    return QuestionFigures(right, given, active_ms, 1, int(right), wrong, 0, kept=given is not None)


def columns(students: Iterable[Mapping[str, QuestionFigures]]) -> list[Answered]:
    return [in_columns(questions) for questions in students]


def firsts(students: Iterable[Mapping[str, QuestionFigures]]) -> list[FirstAnswers]:
    return [answered.first for answered in columns(students)]


def wrongs(students: Iterable[Mapping[str, QuestionFigures]]) -> list[WrongGiven]:
    return [answered.wrong for answered in columns(students)]


def test_wilsons_interval() -> None:
    # Newcombe 1998, table I: 81 of 263; and the edges.
    for (part, n), (low, high) in {(81, 263): (0.2553, 0.3662), (0, 20): (0.0, 0.1611), (20, 20): (0.8389, 1.0)}.items():
        assert wilson(part, n).low == pytest.approx(low, abs=1e-4)
        assert wilson(part, n).high == pytest.approx(high, abs=1e-4)


def test_no_share_is_told_of_fewer_than_five() -> None:
    assert share(2, 4) is None
    assert share(2, 5) == 0.4


def test_correlation_is_pearsons_and_nothing_without_variation() -> None:
    assert correlation([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(1)
    assert correlation([1, 2, 3, 5], [4, 1, 7, 2]) == pytest.approx(-0.1107, abs=1e-4)
    assert correlation([1, 1, 1], [1, 2, 3]) is None


def test_median() -> None:
    assert median([]) is None
    assert (median([3, 1, 2]), median([4, 1, 2, 3])) == (2, 2)


def test_discrimination_leaves_the_question_itself_out_and_needs_twenty_students() -> None:
    # Six questions, of which students of rank k get the first k % 7 right: standing on the others decides, not the question itself.
    students = [{f"q{n}": asked(n < k % 7) for n in range(6)} for k in range(21)]
    item = {i.question_id: i for i in item_figures(firsts(students))}["q0"]
    assert item.facility == pytest.approx(18 / 21, abs=1e-4)
    standings = [sum(n < k % 7 for n in range(1, 6)) / 5 for k in range(21)]
    assert item.discrimination == round(correlation(standings, [float(k % 7 > 0) for k in range(21)]) or 0, 4)
    assert {i.discrimination for i in item_figures(firsts(students[:19]))} == {None}
    assert {i.flags for i in item_figures(firsts(students[:19]))} == {()}


def test_a_large_class_of_equals_tells_nothing_of_a_question() -> None:
    """However the sums are rounded."""
    for right in range(1, 12):
        others = {f"q{n}": asked(n < right) for n in range(12)}
        students = [others | {"halves": asked(k % 2 == 0)} for k in range(500)]
        (item,) = item_figures(firsts(students), {"halves"})
        assert (item.discrimination, item.flags) == (None, ()), right


def test_a_student_with_few_other_answers_has_no_standing() -> None:
    students = [{f"q{n}": asked(n < k % 4) for n in range(4)} for k in range(30)]
    assert {i.discrimination for i in item_figures(firsts(students))} == {None}


def test_questions_are_flagged_by_facility_and_discrimination() -> None:
    def student(k: int) -> dict[str, QuestionFigures]:
        return {
            **{f"base{n}": asked(n < k % 7) for n in range(6)},
            "hard": asked(k >= 18, "a" if k >= 18 else "b"),
            "easy": asked(k != 0),
            "key": asked(k % 7 < 3, "x" if k % 7 < 3 else "y"),
        }

    items = {i.question_id: i for i in item_figures(firsts(student(k) for k in range(21)))}
    assert Flag.HARD in items["hard"].flags
    assert Flag.EASY in items["easy"].flags
    assert Flag.CHECK_KEY in items["key"].flags
    assert Flag.CHECK_KEY not in items["base2"].flags
    options = {o.given: o for o in items["key"].options}
    assert (options["x"].right, options["x"].students, options["x"].share) == (True, 9, round(9 / 21, 4))
    assert options["x"].share_bottom is not None
    assert options["x"].share_top is not None
    assert options["x"].share_bottom > options["x"].share_top
    assert [i.question_id for i in item_figures(firsts([student(0)]), frozenset({"key", "unknown"}))] == ["key"]


def test_what_was_let_go_of_is_no_part_of_shares_of_options_and_all_of_facility_and_discrimination() -> None:
    def student(k: int, given: str | None) -> dict[str, QuestionFigures]:
        return {**{f"base{n}": asked(n < k % 7) for n in range(6)}, "q": asked(k % 7 < 3, given)}

    told = [student(k, "x" if k % 7 < 3 else "y") for k in range(21)]
    gone = [student(k, None) for k in range(21)]

    def of(students: Iterable[Mapping[str, QuestionFigures]]) -> ItemFigures:
        return {i.question_id: i for i in item_figures(firsts(students))}["q"]

    assert of([*told, *gone]).options == of(told).options != ()
    assert of(gone).options == ()
    assert (of(gone).facility, of(gone).discrimination, of(gone).flags) == (of(told).facility, of(told).discrimination, of(told).flags)
    assert (of([*told, *gone]).students, of([*told, *gone]).facility) == (42, of(told).facility)
    few = of([*told[:19], *gone]).options
    assert [(o.students > 0, o.share_top, o.share_bottom) for o in few] == [(True, None, None)] * 2, "thirds are of twenty that are known"


def test_times_need_five_students() -> None:
    students = [{"q": asked(True, active_ms=1_000 * k), "r": asked(True, active_ms=5 if k < 4 else None)} for k in range(5)]
    assert median_times(firsts(students), {"q", "r", "s"}) == {"q": 2_000}


def test_a_wrong_answer_is_common_from_three_students_and_a_fifth_of_them() -> None:
    def student(*given: str, sure: int = 0) -> dict[str, QuestionFigures]:
        return {"q": asked(False, wrong=tuple(WrongAnswer(g, 2, sure) for g in given))}

    few = [student("a", "b"), student("a", "b"), student("a", sure=1), *([student("c")] * 2), *([student()] * 10)]
    (common,) = common_wrong_answers(wrongs(few))
    assert (common.given, common.students, common.answered, common.sure, common.share) == ("a", 3, 15, 1, 0.2)
    assert common_wrong_answers(wrongs([*few, student()])) == []
    gone = {"q": asked(False, None)}
    assert common_wrong_answers(wrongs([*few, gone, gone])) == [common], "what was let go of is no part of the whole"


def test_a_curve_tells_who_stops_and_whether_practice_helps() -> None:
    steep = ["0" * k + "1" * (12 - k) for k in range(6)]
    assert not learning_curve("c", steep).flat
    flat = ["01" * 6, "10" * 6] * 3
    assert learning_curve("c", flat).flat
    stopped = learning_curve("c", ["0", "0", "01", "11", "11", "11", "11"])
    assert [(p.students, p.error, p.stopped, p.stopped_wrong) for p in stopped.points] == [(7, 0.4286, 2, 2), (5, 0.0, 5, 0)]
    assert learning_curve("c", ["1"] * 4).points == ()
