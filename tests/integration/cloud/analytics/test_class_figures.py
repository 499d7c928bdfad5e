"""What teachers are told of a class, from attempts to tables."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2.extensions import cursor as PostgresCursor
from psycopg2.extras import Json

from cloud_api.analytics import csv_tables, reading
from cloud_api.analytics.days import day_text
from cloud_api.analytics.question_lists import ItemOrder, ItemsWanted, Span
from domain.errors import NotFound
from domain.learning.levels import Level
from tests.support.classroom import DAY_MS, NOW_MS, Classroom, Given
from tests.support.cloud import SchoolBuilder


def asked(room: Classroom, table: str, *arguments: Any) -> Any:
    return getattr(room.figures, table)(room.school.id, room.class_id, *arguments)


def test_the_heat_map_is_grey_under_three_answers_and_says_what_has_no_answer(room: Classroom) -> None:
    room.answer(
        [Given("ada", f"halves-{n % 3}", 3 - n, True) for n in range(3)]
        + [Given("ada", "thirds-0", 1, True), Given("ada", "thirds-1", 1, True)]
        + [Given("ben", f"halves-{n % 3}", 1 - n / 100, False) for n in range(4)]
    )
    overview = asked(room, "overview")
    ada, ben, cem = overview.students
    assert (ada.display_name, ben.display_name, cem.display_name) == ("Ada", "Ben", "Cem")
    halves, thirds = room.ids["halves"], room.ids["thirds"]
    assert ada.cells[halves].level in (Level.FAMILIAR, Level.PROFICIENT)
    assert ada.cells[halves].answers == 3
    assert ada.cells[thirds].level is Level.NOT_ENOUGH_EVIDENCE
    assert ben.cells[halves].level is Level.ATTEMPTED
    assert ben.cells[halves].score < ada.cells[halves].score
    assert thirds not in ben.cells
    assert cem.cells == {}
    assert ada.topic_cells[room.ids["fractions"]].answers == 5
    assert [c.title for c in overview.concepts] == ["halves", "thirds"]  # nobody has met anything of the other topic
    assert [(t.title, len(t.concept_ids)) for t in overview.topics] == [("fractions", 2)]


def test_scores_fall_as_time_passes_though_nothing_is_written(room: Classroom) -> None:
    room.answer([Given("ada", f"halves-{n % 3}", 3 - n, True) for n in range(3)])
    before = asked(room, "overview").students[0].cells[room.ids["halves"]].score
    rows = room.rows()
    room.clock.at_ms += 30 * DAY_MS
    assert asked(room, "overview").students[0].cells[room.ids["halves"]].score < before
    assert room.rows() == rows


def test_the_age_of_the_data_is_that_of_the_last_contact_of_a_students_devices(room: Classroom) -> None:
    device = room.school.enrol(room.grant("ada"))
    room.ids["laptop"] = device.id
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE devices SET last_seen_ms = %s WHERE school_id = %s AND id = %s", (NOW_MS - 5_000, room.school.id, device.id))
    room.answer([Given("ada", "halves-0", 2, True)])
    ada, ben, _ = (row.data_age for row in asked(room, "overview").students)
    assert (ada.last_sync_ms, ada.last_answer_at_ms, ada.uncounted) == (NOW_MS - 5_000, NOW_MS - 2 * DAY_MS, 0)
    assert (ben.last_sync_ms, ben.last_answer_at_ms) == (None, None)


def test_answers_that_are_too_many_to_be_counted_at_once_are_told_as_uncounted(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ANSWERS_WHILE_WAITED_FOR", 5)
    room.answer([Given("ada", "halves-0", 1 - n / 100, True) for n in range(6)] + [Given("ben", "halves-0", 1, True)])
    ada, ben, _ = asked(room, "overview").students
    assert (ada.data_age.uncounted, ada.cells) == (6, {})
    assert (ben.data_age.uncounted, len(ben.cells)) == (0, 1)


def test_a_student_who_changes_class_takes_the_figures_along(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 1, True)])
    other = room.other_class("8a")
    room.move("ada", other)
    assert [s.display_name for s in asked(room, "overview").students] == ["Ben", "Cem"]
    moved = room.figures.overview(room.school.id, other).students
    assert [(s.display_name, len(s.cells)) for s in moved] == [("Ada", 1)]


def test_needs_help_names_rule_and_concept(room: Classroom) -> None:
    room.answer(
        [Given("ada", f"halves-{n % 3}", 2 - n / 100, False) for n in range(4)]
        + [Given("ben", f"sums-{n % 3}", 2 - n / 100, n % 3 != 2, active_ms=300) for n in range(12)]
        + [Given("cem", "sums-0", 60, True)]
    )
    room.plan("cem", [(n, 20, "planned") for n in range(1, 9)], learnt_share=0.41)
    room.exam("cem", 20)
    room.plan("ada", [(1, 20, "done")], learnt_share=0.9)
    found = {need.display_name: {r.rule.value: r for r in need.reasons} for need in asked(room, "needs_help")}
    assert found["Ada"].keys() == {"four_wrong_in_a_row"}
    assert found["Ada"]["four_wrong_in_a_row"].sentence == "halves: 4 wrong answers in a row."
    assert found["Ada"]["four_wrong_in_a_row"].concept_id == room.ids["halves"]
    assert {"ten_answers_without_three_right", "rapid_guesses"} <= found["Ben"].keys()
    assert found["Cem"].keys() == {"idle_on_planned_days", "forecast_under_target"}
    assert found["Cem"]["idle_on_planned_days"].sentence == "No answer on 8 planned days."


@pytest.mark.parametrize(("in_days", "told"), [(None, False), (-1, False), (0, True), (150, True), (151, False)])
def test_a_forecast_counts_only_where_it_is_one_of_an_exam_to_come(room: Classroom, in_days: int | None, told: bool) -> None:
    room.plan("ada", [], learnt_share=0.2, made_days_ago=30)
    if in_days is not None:
        room.exam("ada", in_days)
    assert [[r.rule.value for r in need.reasons] for need in asked(room, "needs_help")] == [["forecast_under_target"]] * told


def test_items_and_wrong_answers_of_a_class_of_thirty(cloud_school: SchoolBuilder) -> None:
    names = [f"student{n:02}" for n in range(30)]
    room = Classroom.of(cloud_school, names)
    questions = [f"{c}-{n}" for c in ("halves", "thirds") for n in range(3)]
    able = {name: n >= 15 for n, name in enumerate(names)}
    answers = [Given(s, q, 2, able[s], None if able[s] else " Half  OF it", confidence=4) for s in names for q in questions]
    answers += [Given(s, "sums-0", 1, not able[s], "7") for s in names]  # the key is wrong
    answers += [Given(s, "halves-0", 0.5, True, "42") for s in names]  # second answers are about learning
    room.answer(answers)
    items = {row.figures.question_id: row for row in asked(room, "items").rows}
    first = items[room.ids["halves-0"]]
    assert first.stem == "About halves-0?"
    assert (first.figures.students, first.figures.answers, first.figures.facility) == (30, 60, 0.5)
    assert first.figures.discrimination > 0.9
    assert items[room.ids["sums-0"]].figures.discrimination < -0.9
    assert [flag.value for flag in items[room.ids["sums-0"]].figures.flags] == ["check_the_key"]
    assert next(iter(items)) == room.ids["sums-0"]  # flagged ones first
    assert {r.figures.question_id for r in asked(room, "items", ItemsWanted(concept_id=room.ids["sums"])).rows} == {room.ids["sums-0"]}
    assert asked(room, "items", ItemsWanted(room.ids["fractions"])).total == 6

    wrong = {row.figures.question_id: row.figures for row in asked(room, "wrong_answers").rows}
    common = wrong[room.ids["halves-0"]]
    assert (common.given, common.students, common.answered, common.sure, common.share) == ("half of it", 15, 30, 15, 0.5)
    assert common.interval.low == pytest.approx(0.3315, abs=0.001)
    assert common.interval.high == pytest.approx(0.6685, abs=0.001)


def test_time_is_told_against_plan_and_idle_gaps_are_cut(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 2, True, active_ms=3_600_000), Given("ada", "halves-1", 1.9, True, active_ms=60_000)])
    room.plan("ada", [(2, 30, "done"), (1, 30, "planned"), (0, 30, "planned")])
    ada, ben, _ = asked(room, "time")
    assert (ada.standing.due_minutes, ada.standing.done_minutes, ada.standing.spent_minutes) == (60, 30, 6)
    assert sum(day.figures.answers for day in ada.days) == 2
    assert (ben.standing.due_minutes, ben.days) == (0, [])


def test_a_plan_counts_until_the_next_one_begins(room: Classroom) -> None:
    room.plan("ada", [(5, 10, "done"), (3, 40, "planned"), (2, 40, "planned")], made_days_ago=6)
    room.plan("ada", [(3, 10, "done"), (2, 10, "skipped"), (1, 30, "planned")], made_days_ago=3)
    standing = asked(room, "time")[0].standing
    assert (standing.due_minutes, standing.done_minutes, standing.skipped_minutes, standing.overdue_items) == (60, 20, 10, 1)


def test_those_off_plan_are_told_by_how_much(room: Classroom) -> None:
    room.plan("ada", [(n, 30, "planned") for n in range(1, 4)])
    room.plan("ben", [(n, 30, "done") for n in range(1, 4)])
    room.plan("cem", [(n, 60, "planned") for n in range(1, 4)])
    assert [(row.display_name, row.standing.behind_minutes) for row in asked(room, "off_plan")] == [("Cem", 180), ("Ada", 90)]


def test_curves_show_who_stops_and_leave_out_few(cloud_school: SchoolBuilder) -> None:
    names = [f"student{n}" for n in range(8)]
    room = Classroom.of(cloud_school, names)
    room.answer([Given(s, "halves-0", 9 - k, k > 0 or i < 2) for i, s in enumerate(names) for k in range(3) if k == 0 or i < 5])
    room.answer([Given(s, "thirds-0", 1, True) for s in names[:4]])
    (row,) = asked(room, "curves")
    assert row.title == "halves"
    assert [(p.students, p.error, p.stopped, p.stopped_wrong) for p in row.figures.points] == [
        (8, 0.75, 3, 3),
        (5, 0.0, 0, 0),
        (5, 0.0, 5, 0),
    ]


def test_groups_are_of_students_who_lack_the_same_prerequisite_of_what_they_work_on(room: Classroom) -> None:
    room.answer(
        [Given(s, f"sums-{n % 3}", 3 - n / 10, False) for s in ("ada", "ben") for n in range(4)]
        + [Given("cem", f"{c}-{n % 3}", 5 - n, True) for c in ("sums", "halves", "thirds") for n in range(5)]
    )
    (group,) = asked(room, "groups")
    assert (group.title, group.waiting_titles, group.names) == ("fractions", ["equations"], ["Ada", "Ben"])


def test_one_students_page_has_the_attempts_and_is_audited(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 2, True, "42"), Given("ada", "halves-1", 1, False, "41", confidence=3)])
    detail = asked(room, "student", room.ids["ada"], "user:1")
    assert [(a.given, a.correct, a.stem) for a in detail.attempts] == [("41", False, "About halves-1?"), ("42", True, "About halves-0?")]
    assert detail.row.cells[room.ids["halves"]].answers == 2
    with room.school.database.transaction(read_only=True, school=room.school.id) as cursor:
        cursor.execute("SELECT actor, subject FROM audit_log WHERE school_id = %s AND action = 'student.read'", (room.school.id,))
        assert cursor.fetchall() == [("user:1", room.ids["ada"])]


def test_students_of_other_classes_are_not_to_be_had(room: Classroom) -> None:
    stranger = room.school.add_user("zoe").id
    with pytest.raises(NotFound):
        asked(room, "student", stranger, "user:1")
    with pytest.raises(NotFound):
        room.figures.overview(room.school.id, room.school.ids.new())


def test_statements_do_not_grow_in_number_with_students_or_answers(cloud_school: SchoolBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"student{n}" for n in range(12)]
    room = Classroom.of(cloud_school, names)
    statements = counting(monkeypatch)

    def cost(table: str) -> int:
        statements.clear()
        asked(room, table)
        return len(statements)

    for n, table in enumerate(("overview", "needs_help", "items", "wrong_answers", "time", "curves", "groups", "off_plan", "out_of_reach")):
        room.answer([Given(s, "halves-0", 9 - n, True) for s in names])
        asked(room, table)
        at_rest = cost(table)
        room.answer([Given(names[0], "halves-1", 8.9 - n, True)])
        one_student = cost(table)
        room.answer([Given(s, f"{c}-{k}", 8.8 - n, True) for s in names for c in ("halves", "sums") for k in range(3)])
        assert cost(table) == one_student, table
        assert cost(table) == at_rest < one_student, table


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that transactions make from now on."""
    made: list[str] = []

    class CountingCursor(PostgresCursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            made.append(str(query))
            super().execute(query, vars)

    from cloud_api.database import OverflowPool

    connect = OverflowPool._connect

    def counted(pool: OverflowPool) -> Any:
        connection = connect(pool)
        connection.cursor_factory = CountingCursor
        return connection

    monkeypatch.setattr(OverflowPool, "_connect", counted)
    return made


def test_concepts_come_as_they_are_taught_in_every_table(room: Classroom) -> None:
    room.publish_topics([f"topic {n}" for n in range(3)])
    room.publish_concepts("topic 1", ["part 10", "part 9", "Part 2"])
    room.put_question("both", "topic 0", ["products", "topic 0-c"])
    answered = ["topic 2-0", "both", "sums-0", "thirds-0", "halves-0"]
    room.answer([Given(s, q, 2 - n / 100, False) for s in ("ada", "ben") for n in range(4) for q in answered])
    taught = ["halves", "thirds", "products", "sums", "topic 0-c", "topic 2-c"]
    overview = asked(room, "overview")
    titles = {concept.id: concept.title for concept in overview.concepts}
    assert list(titles.values()) == taught, "and the class has not begun topic 1"
    assert [[titles[c] for c in student.cells] for student in overview.students[:2]] == [taught, taught]
    assert [titles[r.concept_id] for r in asked(room, "needs_help")[0].reasons] == taught
    assert [line[5] for line in csv_tables.mastery(overview).lines[:6]] == taught
    room.answer([Given("ada", "topic 1-0", 1, True)])
    assert [c.title for c in asked(room, "overview").concepts][5:9] == ["Part 2", "part 9", "part 10", "topic 1-c"]


def test_a_concept_of_two_topics_stands_in_both_and_is_counted_once(room: Classroom) -> None:
    room.publish_topics(["again"])
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE concepts SET topic_ids = topic_ids || %s WHERE id = %s", (Json([room.ids["again"]]), room.ids["halves"]))
    room.answer([Given("ada", "halves-0", 1 - n / 100, True) for n in range(3)])
    overview = asked(room, "overview")
    assert [c.title for c in overview.concepts] == ["halves", "thirds", "again-c"]
    assert {t.title: len(t.concept_ids) for t in overview.topics} == {"fractions": 2, "again": 2}
    assert overview.students[0].topic_cells[room.ids["again"]] == overview.students[0].topic_cells[room.ids["fractions"]]


def test_what_is_not_taught_any_more_is_in_no_table_and_holds_nothing_up(room: Classroom) -> None:
    room.answer(
        [
            Given(s, q, 2 - n / 100, False, "41", confidence=4)
            for s in ("ada", "ben", "cem")
            for n in range(4)
            for q in ("halves-0", "sums-0")
        ]
    )
    room.plan("ada", [(-1, 30, "planned")])
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE concepts SET retired_at_ms = 1 WHERE id = %s", (room.ids["halves"],))
        cursor.execute("UPDATE questions SET retired_at_ms = 1 WHERE id = %s", (room.ids["halves-0"],))
    assert "halves" not in [c.title for c in asked(room, "overview").concepts]
    assert {r.concept_id for need in asked(room, "needs_help") for r in need.reasons if r.concept_id} == {room.ids["sums"]}
    assert [row.stem for row in asked(room, "items").rows] == ["About halves-0?", "About sums-0?"], "what was answered stays told"
    detail = asked(room, "student", room.ids["ada"], "user:1")
    assert [item.concept_id for item in detail.coming] == [room.ids["halves"]]
    assert room.ids["halves"] not in detail.titles


def test_those_off_plan_are_told_since_when_and_how_old_that_is(room: Classroom) -> None:
    room.plan("ada", [(12, 30, "done"), (9, 30, "planned"), (3, 30, "skipped"), (1, 30, "planned")])
    room.answer([Given("ada", "sums-0", 11, True)])
    (ada,) = asked(room, "off_plan")
    assert day_text(ada.standing.behind_since) == day_text(NOW_MS // DAY_MS - 9)
    assert ada.data_age.last_answer_at_ms == NOW_MS - 11 * DAY_MS


def test_coming_items_are_done_where_answers_did_them(room: Classroom) -> None:
    room.plan("ada", [(0, 10, "planned"), (-1, 20, "skipped"), (-2, 30, "planned")])

    def items() -> list[tuple[int, str]]:
        return [(i.minutes, i.status) for i in asked(room, "student", room.ids["ada"], "user:1").coming]

    assert items() == [(10, "planned"), (20, "skipped"), (30, "planned")]
    room.answer([Given("ada", f"halves-{n}", 0.1 - n / 100, True) for n in range(3)])
    assert items() == [(10, "done"), (20, "skipped"), (30, "done")], "a new concept is learnt once"


def test_a_plan_of_a_clock_that_ran_ahead_counts_only_while_there_is_no_other(room: Classroom) -> None:
    def told() -> tuple[list[int], float | None]:
        detail = asked(room, "student", room.ids["ada"], "user:1")
        return [item.minutes for item in detail.coming], detail.learnt_share

    room.exam("ada", 20)
    room.plan("ada", [(-1, 45, "planned")], learnt_share=0.9, made_days_ago=-400)
    assert told()[0] == [45]
    room.plan("ada", [(-1, 30, "planned")], learnt_share=0.4, made_days_ago=0)
    assert told() == ([30], 0.4)


def test_nothing_that_a_device_may_write_into_plans_breaks_the_pages_of_a_class(room: Classroom) -> None:
    """A plan that begins on the last day there is; an item of somebody of another class in the plan of one of this class."""
    room.exam("ada", 20)
    room.plan("ada", [(2, 30, "planned")], learnt_share=0.2)
    stranger = room.school.add_user("stranger").id
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE study_plan_items SET student_id = %s", (stranger,))
    assert [row.standing.due_minutes for row in asked(room, "time")] == [0, 0, 0]
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE study_plans SET starts_on = '9999-12-31'")
    assert [[r.rule.value for r in need.reasons] for need in asked(room, "needs_help")] == [["forecast_under_target"]]


def test_topics_that_plans_for_an_exam_leave_out_are_told_with_how_many_plans(room: Classroom) -> None:
    for student, left_out in (("ada", ["halves", "sums"]), ("ben", ["sums", "products"]), ("cem", ["halves"])):
        room.plan(student, [], learnt_share=0.5)
        with room.school.database.transaction(school=room.school.id) as cursor:
            forecast = Json({"learnt_share": 0.5, "left_out": [room.ids[c] for c in left_out] + [7]})
            cursor.execute("UPDATE study_plans SET forecast = %s WHERE student_id = %s", (forecast, room.ids[student]))
    assert asked(room, "out_of_reach") == []
    for student in ("ada", "ben"):
        room.exam(student, 20)
    found = [(row.title, row.names, row.figures.plans) for row in asked(room, "out_of_reach")]
    assert found == [("equations", ["Ada", "Ben"], 2), ("fractions", ["Ada"], 2)]


def test_coverage_is_told_of_the_weights_that_the_course_states(room: Classroom) -> None:
    room.answer([Given("ada", f"halves-{n % 3}", 20 - n, True) for n in range(12)])
    assert asked(room, "student", room.ids["ada"], "user:1").coverage is None
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE topics SET weightage = CASE title WHEN 'fractions' THEN 30 ELSE 70 END")
    assert asked(room, "student", room.ids["ada"], "user:1").coverage == 0.15


def test_no_share_is_told_of_four_students(cloud_school: SchoolBuilder) -> None:
    names = [f"student{n}" for n in range(5)]
    room = Classroom.of(cloud_school, names)
    room.answer([Given(s, "halves-0", 1, False, "41", confidence=4) for s in names[:4]])
    (wrong,), (item,) = asked(room, "wrong_answers").rows, asked(room, "items").rows
    assert (wrong.figures.students, wrong.figures.share, wrong.figures.interval) == (4, None, None)
    assert (item.figures.facility, item.figures.options[0].share, item.figures.options[0].students) == (None, None, 4)
    assert csv_tables.wrong_answers([wrong]).lines[0][-3:] == (None, None, None)
    room.answer([Given(names[4], "halves-0", 0.9, True)])
    (wrong,), (item,) = asked(room, "wrong_answers").rows, asked(room, "items").rows
    assert (wrong.figures.share, item.figures.facility) == (0.8, 0.2)


def test_questions_come_in_the_order_and_the_part_that_is_asked_for(cloud_school: SchoolBuilder) -> None:
    names = [f"student{n:02}" for n in range(24)]
    room = Classroom.of(cloud_school, names)
    right_of = {"halves-0": 24, "halves-1": 12, "halves-2": 3, "thirds-0": 20, "thirds-1": 15, "thirds-2": 14, "sums-0": 10}
    room.answer([Given(s, q, 2, n < right) for q, right in right_of.items() for n, s in enumerate(names)])
    room.answer([Given(s, "sums-1", 1, True) for s in names[:6]])

    def stems(**wanted: Any) -> list[str]:
        span = Span(wanted.pop("offset", 0), wanted.pop("limit", None))
        return [row.stem.removeprefix("About ").rstrip("?") for row in asked(room, "items", ItemsWanted(**wanted), span).rows]

    hardest = stems(order=ItemOrder.HARDEST)
    assert hardest[:3] == ["halves-2", "sums-0", "halves-1"]
    assert stems(order=ItemOrder.HARDEST, offset=1, limit=2) == hardest[1:3]
    assert set(stems(order=ItemOrder.EASIEST)[:2]) == {"halves-0", "sums-1"}
    assert stems(order=ItemOrder.MOST)[-1] == "sums-1"
    assert stems(order=ItemOrder.WEAKEST)[-1] in ("sums-1", "halves-0"), "of which nothing is told"
    flagged = asked(room, "items", ItemsWanted(flagged=True))
    assert {row.stem for row in flagged.rows} == {"About halves-0?", "About halves-2?"}
    assert (flagged.total, flagged.flagged, flagged.answered) == (2, 2, 8)


def test_figures_in_the_form_of_another_version_are_counted_anew(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 1, True)])
    before, rows = asked(room, "overview").students[0].cells, room.rows()
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE student_figures SET engine = '0/compact', questions = '{\"old\": [1]}', mastery = '[]'")
    assert asked(room, "overview").students[0].cells == before
    assert room.rows() == rows
