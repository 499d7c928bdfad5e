"""Answers by question in columns: the same as they were, whatever was answered."""

from __future__ import annotations

import random

from domain.learning.analytics.answered import by_question, in_columns
from domain.learning.analytics.items import item_figures
from domain.learning.analytics.measures import correlation
from domain.learning.analytics.student import QuestionFigures, WrongAnswer


def drawn(draw: random.Random, questions: int) -> dict[str, QuestionFigures]:
    return {
        f"q{n}": QuestionFigures(
            draw.random() < 0.6,
            draw.choice([None, "", "42", "a b", " ", "ü"]),
            draw.choice([None, 0, 20_000]),
            draw.randrange(1, 9),
            draw.randrange(0, 3),
            tuple(
                WrongAnswer(given, draw.randrange(1, 5), draw.randrange(0, 2))
                for given in draw.sample(["7", "x y", "ß"], draw.randrange(0, 4))
            ),
            draw.randrange(2**32),
            draw.random() < 0.5,
        )
        for n in draw.sample(range(50), questions)
    }


def test_columns_hold_all_that_is_known_by_question_in_its_order() -> None:
    draw = random.Random(1)
    for questions in (0, 1, 7, 50):
        figures = drawn(draw, questions)
        back = by_question(in_columns(figures))
        assert back == figures
        assert list(back) == list(figures)


def test_wrong_answers_are_named_by_question_and_answer_sure_ones_apart() -> None:
    wrong = (WrongAnswer("x y", 2, 0), WrongAnswer("7", 1, 1))
    columns = in_columns({"p": QuestionFigures(True, "", None, 1, 1, (), 0), "q": QuestionFigures(False, "7", None, 3, 0, wrong, 0)}).wrong
    assert list(columns.keys()) == ["q x y", "q 7"]
    assert list(columns.sure_keys()) == ["q 7"]


def test_discrimination_is_pearsons_correlation_with_the_standing_on_all_other_questions() -> None:
    draw = random.Random(2)
    students = [drawn(draw, draw.randrange(4, 40)) for _ in range(100)]
    found = {item.question_id: item for item in item_figures([in_columns(student).first for student in students])}
    for question, item in found.items():
        placed = [
            (sum(f.first_right for q, f in student.items() if q != question) / (len(student) - 1), float(student[question].first_right))
            for student in students
            if question in student and len(student) > 5
        ]
        assert len(placed) >= 20
        assert item.discrimination == round(correlation([x for x, _ in placed], [y for _, y in placed]) or 0, 4)
        assert item.students == sum(question in student for student in students)
        assert item.answers == sum(student[question].answers for student in students if question in student)
