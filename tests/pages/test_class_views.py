"""What the teachers' pages show, before it is HTML: which columns in which order, days without answers, rules put together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import pytest

from cloud_api.analytics.rows import ConceptColumn, DataAge, DayRow, Overview, StudentDetail, StudentRow, TimeRow, TopicColumn
from cloud_api.pages.classes import words
from cloud_api.pages.classes.columns import columns_of
from cloud_api.pages.classes.heat_map import FIGURES_COLUMNS_MAX, heat_map
from cloud_api.pages.classes.looks import Look, Order, read_look
from cloud_api.pages.classes.practice import busiest, days_of, time_lines
from cloud_api.pages.classes.questions import QuestionsLook
from cloud_api.pages.classes.reasons import SENTENCES_MAX, by_rule
from cloud_api.pages.classes.student import student_view
from cloud_api.pages.formulas import plain
from domain.errors import InvalidInput, NotFound
from domain.ids import Id, dashed
from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.needs_help import Reason, Rule
from domain.learning.analytics.plan_standing import PlanStanding
from domain.learning.analytics.student import DayFigures
from domain.learning.levels import Level
from tests.support.classroom import DAY_MS, NOW_MS
from webpages.assets import COMMON
from webpages.charts import StripCell, columns, dense_strip, strip, strip_parts

AGE = DataAge(NOW_MS, NOW_MS, 0)


def student(name: str, cells: Mapping[str, Cell], age: DataAge = AGE) -> StudentRow:
    return StudentRow(name, name, age, cells, cells)


def cell(level: Level, score: float | None = None, answers: int = 5) -> Cell:
    return Cell(level, score, answers, NOW_MS)


def overview(students: list[StudentRow] | None = None, parents: Mapping[str, str | None] | None = None) -> Overview:
    """A course `root` with the chapters two and one (in this order), one with the sections 1.1 and 1.2; a concept in each leaf."""
    tree = parents or {"root": None, "two": "root", "one": "root", "1.1": "one", "1.2": "one"}
    leaves = ["1.2", "1.1", "two"]
    inside = {"root": leaves, "one": ["1.2", "1.1"], "two": ["two"], "1.1": ["1.1"], "1.2": ["1.2"]}
    topics = [TopicColumn(t, t, parent, tuple(f"c{leaf}" for leaf in inside[t])) for t, parent in tree.items()]
    return Overview("7b", "7b", NOW_MS, students or [], [ConceptColumn(f"c{leaf}", f"c{leaf}", (leaf,)) for leaf in leaves], topics)


def titles(look: Look) -> list[str]:
    return [column.title for column in columns_of(overview(), look.topic, concepts=look.concepts).shown]


def test_a_course_that_is_one_topic_is_opened_at_once() -> None:
    assert titles(Look()) == ["two", "one"]


def test_topics_open_into_their_parts_and_the_innermost_into_concepts() -> None:
    assert titles(Look(Id("one"))) == ["1.1", "1.2"]
    assert titles(Look(Id("two"))) == ["ctwo"]
    assert [step.title for step in columns_of(overview(), "1.1", concepts=False).path] == ["root", "one", "1.1"]


def test_concepts_stand_in_the_order_in_which_they_are_taught() -> None:
    assert titles(Look(concepts=True)) == ["ctwo", "c1.1", "c1.2"]
    assert titles(Look(Id("one"), concepts=True)) == ["c1.1", "c1.2"]


def test_concepts_stand_under_the_topics_that_they_are_of() -> None:
    assert columns_of(overview(), None, concepts=True).parts == [("two", 1), ("one", 2)]
    assert columns_of(overview(), "two", concepts=False).parts == (), "there is nothing below that topic to name"
    drawn = strip_parts([("<b>", 1), ("one", 3)])
    assert 'x="25.00%" width="75.00%"' in drawn
    assert "<b>" not in drawn


def test_topics_in_a_circle_hold_nobody_up() -> None:
    circle = overview(parents={"one": "two", "two": "one"})
    assert len(columns_of(circle, None, concepts=False).shown) == 3
    assert {step.title for step in columns_of(circle, "one", concepts=True).path} == {"one", "two"}


def test_an_unknown_topic_is_not_found() -> None:
    with pytest.raises(NotFound):
        columns_of(overview(), "three", concepts=False)


def test_need_is_most_columns_below_proficient_and_then_the_lowest_scores() -> None:
    weak, weaker = cell(Level.ATTEMPTED, 0.5), cell(Level.ATTEMPTED, 0.3)
    rows = [
        student("nothing", {}),
        student("good", {"one": cell(Level.MASTERED, 0.95)}),
        student("weak", {"one": weak}),
        student("weaker", {"one": weaker}),
        student("both", {"one": cell(Level.FAMILIAR, 0.7), "two": cell(Level.FAMILIAR, 0.7)}),
    ]
    shown = heat_map(overview(rows), Look())
    assert [line.name for line in shown.lines] == ["both", "weaker", "weak", "good", "nothing"]
    assert shown.below == 3
    by_name = heat_map(overview(rows), Look(order=Order.NAME))
    assert [line.name for line in by_name.lines] == [row.display_name for row in rows], "they come by name"


def test_the_oldest_data_comes_first_and_no_data_before_it() -> None:
    rows = [student("new", {}), student("never", {}, DataAge(None, None, 0)), student("old", {}, DataAge(NOW_MS - DAY_MS, None, 0))]
    assert [line.name for line in heat_map(overview(rows), Look(order=Order.AGE)).lines] == ["never", "old", "new"]


def test_a_grey_cell_shows_no_score_anywhere() -> None:
    rows = [student("ada", {"one": cell(Level.NOT_ENOUGH_EVIDENCE, 0.93, 2)})]
    shown = heat_map(overview(rows), Look())
    (line,) = shown.lines
    said = str(shown.strip(line)) + line.levels + shown.told(line.cells[1]) + shown.columns[1].levels
    assert "93" not in said
    assert "too few answers (2)" in said


def test_a_concept_with_too_few_answers_has_an_empty_bar_at_its_student() -> None:
    row = student("ada", {"c1": cell(Level.NOT_ENOUGH_EVIDENCE, 0.93, 2), "c2": cell(Level.FAMILIAR, 0.7)})
    detail = StudentDetail(row, {"c1": "halves", "c2": "thirds"}, [], PlanStanding(0, 0, 0, 0, 0, 0), [], [], [])
    view = student_view(detail, NOW_MS)
    assert [(line.title, line.share) for line in view.concepts] == [("thirds", 0.7), ("halves", 0.0)]
    assert "93" not in view.concepts[1].words


def test_many_columns_are_drawn_without_figures() -> None:
    many = overview([student("ada", {})])
    many.concepts[:] = [ConceptColumn(str(n), str(n), ()) for n in range(FIGURES_COLUMNS_MAX + 1)]
    assert heat_map(many, Look(concepts=True)).dense
    many.concepts.pop()
    assert not heat_map(many, Look(concepts=True)).dense


def test_a_look_comes_back_from_its_own_address() -> None:
    topic = Id("0192f0c1d2e37a4b8c9d0e1f2a3b4c5d")
    look = Look(topic, True, Order.AGE, True)
    query = dict(part.split("=") for part in look.but().removeprefix("?").split("&"))
    assert query == {"topic": dashed(topic), "by": "concepts", "order": "age", "as": "table"}
    assert read_look(query) == look
    assert Look().but() == "?"
    assert read_look({}) == Look()
    with pytest.raises(InvalidInput) as refused:
        read_look({"order": "sideways", "as": "poem"})
    assert [problem.path for problem in refused.value.problems] == ["$.order", "$.as"]


def test_another_choice_begins_at_the_first_page_of_what_it_lists() -> None:
    look = QuestionsLook(Id("0192f0c1d2e37a4b8c9d0e1f2a3b4c5d"), page=3, wrong_page=2)
    assert look.but(topic=None) == "?", "both lists are of the topic"
    assert look.but(flagged=True).endswith("&flagged=true&wrong=2")
    assert look.but(page=4).endswith("&page=4&wrong=2")


def test_days_without_an_answer_stand_between_the_others() -> None:
    rows = [DayRow("2025-12-30", DayFigures(600_000, 5, 4, 3)), DayRow("2026-01-02", DayFigures(120_000, 5, 1, 2))]
    days = days_of(rows, NOW_MS)
    assert len(days.minutes) == 28
    assert days.minutes[-7:] == [10.0, 0, 0, 2.0, 0, 0, 0]
    assert days.proficient == [3, 3, 3, 2, 2, 2, 2], "idle days change nothing, and before the first nothing is known"
    assert days.label == "12 minutes on 2 of 28 days"
    assert days.names[-7] == "30 Dec: 10 min, 5 answers"


def test_the_days_of_a_class_are_drawn_to_one_scale() -> None:
    some, more = (columns([minutes], [""], "", top=40) for minutes in (10, 40))
    assert ('height="15.00"' in some, 'height="60.00"' in more) == (True, True)
    idle = PlanStanding(0, 0, 0, 0, 0, 0)
    rows = [
        TimeRow(name, name, idle, [DayRow("2026-01-02", DayFigures(ms, 1, 1, 0))], AGE) for name, ms in (("ada", 600_000), ("ben", 60_000))
    ]
    assert busiest(time_lines(rows, NOW_MS)) == 10
    assert busiest([]) == 0


def test_a_rule_that_holds_for_many_concepts_is_one_line() -> None:
    reasons = [Reason(Rule.FELL, f"{n}: fell.", str(n)) for n in range(60)] + [Reason(Rule.IDLE, "No answer on 8 planned days.")]
    fell, idle = by_rule(reasons)
    assert (fell.rule, len(fell.sentences), fell.more) == (Rule.FELL, SENTENCES_MAX, 60 - SENTENCES_MAX)
    assert (idle.sentences, idle.more) == (["No answer on 8 planned days."], 0)


def test_every_level_and_rule_has_words_and_a_colour() -> None:
    assert set(words.LEVELS) == set(words.MEANINGS) == set(words.STEPS) == set(Level)
    assert set(words.RULES) == set(Rule)


def test_what_stands_in_a_strip_is_escaped() -> None:
    for drawn in (strip([StripCell("4", "<b>", "<script>")], '"><script>'), dense_strip(["<script>"], '"><script>')):
        assert "<script>" not in drawn
        assert "<b>" not in drawn


def test_a_dense_strip_has_one_shape_for_each_step_and_a_piece_for_each_run() -> None:
    drawn = dense_strip(["4", "4", "none", "1", "4"], "Ada")
    assert re.findall(r'class="step-(\w+)" d="([^"]+)"', drawn) == [("4", "M0 0h2v24h-2zM4 0h1v24h-1z"), ("1", "M3 0h1v24h-1z")]
    assert 'viewBox="0 0 5 24"' in drawn
    assert 'aria-label="Ada"' in drawn


def test_a_title_stands_above_its_column_as_a_whole_or_with_a_number() -> None:
    rows = overview([student("ada", {})])
    rows.concepts[:] = [ConceptColumn(name, name, ()) for name in ("halves", "a title of which there is a beginning at most", *"abcdefgh")]
    heads = [head for head, _ in heat_map(rows, Look(concepts=True)).heads]
    assert heads[:3] == ["halves", "2 a titl…", "a"]


def test_answers_that_are_not_counted_yet_are_said_of_a_student_of_whom_nothing_else_is_known() -> None:
    detail = StudentDetail(student("ada", {}, DataAge(None, None, 3)), {}, [], PlanStanding(0, 0, 0, 0, 0, 0), [], [], [])
    assert student_view(detail, NOW_MS).sentence == "3 answers of ada are being counted: look again in a minute."


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"Factor $$48$$.", "Factor 48."),
        (r"$$\frac{1}{2}x^2$$", "(1/2)x²"),
        (r"$$\frac{x+1}{6y}$$", "(x+1)/(6y)"),
        (r"$$\frac{\frac{3}{4}}{\sqrt{7}}$$", "(3/4)/√7"),
        (r"\left(-6x^3\right)^{-2} \times \sqrt[3]{4x}", "(-6x³)⁻² × ∛(4x)"),
        (r"y^{\left(-2\right)}", "y⁻²"),
        (r"$$-{25}^{\frac{3}{2}} \leq {ax}^2$$", "-25^(3/2) ≤ (ax)²"),
        ("{1, 2} costs $5, 8^2.5", "{1, 2} costs $5, 8^2.5"),
        (r"\unknown{x}", r"\unknown{x}"),
    ],
)
def test_formulas_are_read_as_plain_text(written: str, read: str) -> None:
    assert plain(written) == read


def test_a_long_text_is_not_searched_for_formulas() -> None:
    long = "\\sqrt[" * 100_000
    assert plain(long) == long


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_step_of_the_heat_map_is_told_from_the_next_without_colour_and_its_figures_are_read(scheme: str) -> None:
    light, dark = re.findall(r"--step-1: .*?\}", COMMON.get("carrel.css").decode(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light if scheme == "light" else dark))
    steps = [luminance(colours[f"step-{n}"]) for n in range(1, 5)]
    lightness = [116 * step ** (1 / 3) - 16 for step in steps]
    differences = [after - before for before, after in pairwise(lightness if scheme == "dark" else lightness[::-1])]
    assert min(differences) >= 10, differences
    inks = [luminance(colours[ink]) for ink in ("step-ink-1", "step-ink", "step-ink", "step-ink-4")]
    for step, ink in zip(steps, inks, strict=True):
        assert (max(step, ink) + 0.05) / (min(step, ink) + 0.05) >= 4.5


def luminance(colour: str) -> float:
    """The relative luminance of `#rrggbb` (WCAG 2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
