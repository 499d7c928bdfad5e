"""Importing a course: the real one, again, changed, and wrong."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from cloud_api.imports.course_files import CourseFiles
from cloud_api.imports.csv_table import PROBLEMS_MAX
from domain.errors import InvalidInput
from tests.support.cloud import COURSE, SchoolBuilder

TOPICS = "topic_id,parent_id,title,level,position,weightage_percent\n"
CONCEPTS = "concept_id,topic_id,title,mastery_threshold\n"
QUESTIONS = "question_id,topic_id,concept_ids,type,stem,choices_json,answers_json,source_url\n"
PREREQUISITES = "topic_id,prerequisite_topic_id,reason\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small course that is right."""
    (tmp_path / "topics.csv").write_text(TOPICS + "c,,Course,course,1,\nt1,c,First,lesson,1,60\nt2,c,Second,lesson,2,40\n")
    (tmp_path / "concepts.csv").write_text(CONCEPTS + "k1,t1,Adding,0.85\nk2,t2,Taking away,0.85\n")
    (tmp_path / "questions.csv").write_text(
        QUESTIONS + 'q1,t1,k1,multiple_choice,1+1?,"[""1"",""2""]","[""2""]",\nq2,t2,k1;k2,short_text,2-1?,,"[""1""]",https://example.org\n'
    )
    (tmp_path / "prerequisites.csv").write_text(PREREQUISITES + "t2,t1,First things first\n")
    return tmp_path


def _problems(school: SchoolBuilder, folder: Path) -> list[tuple[str, str]]:
    """The problems of an import that must write nothing."""
    before = _everything(school)
    with pytest.raises(InvalidInput) as refused:
        school.import_course(folder)
    assert _everything(school) == before
    return [(problem.path, problem.code) for problem in refused.value.problems]


def _everything(school: SchoolBuilder) -> list[Any]:
    tables = ("topics", "concepts", "questions", "topic_prerequisites", "schools", "audit_log", "tombstones")
    return [
        school.value(
            f"SELECT json_agg(t ORDER BY t.id) FROM (SELECT *, 1 AS x FROM {t}) t" if t != "tombstones" else f"SELECT count(*) FROM {t}"
        )
        for t in tables
    ]


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_real_course_arrives_whole_and_a_second_import_changes_nothing(school: SchoolBuilder) -> None:
    report = school.import_course()
    counts = {table: school.value(f"SELECT count(*) FROM {table}") for table in ("topics", "concepts", "questions")}
    assert counts == {"topics": 82, "concepts": 201, "questions": 544}
    with (COURSE / "concepts.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 204
    assert school.value("SELECT sum(jsonb_array_length(topic_ids)) FROM concepts") == 204
    assert school.value("SELECT count(*) FROM concepts WHERE jsonb_array_length(topic_ids) = 2") == 3
    assert (report.feed_first, report.feed_last) == (1, 827)
    before = _everything(school)
    again = school.import_course()
    assert (again.changes, again.feed_first) == (0, None)
    assert _everything(school) == before


def test_every_row_has_a_feed_number_of_its_own_given_by_the_server(school: SchoolBuilder) -> None:
    school.import_course()
    numbers = school.value(
        "SELECT json_agg(n ORDER BY n) FROM (SELECT feed_no n, origin_no o FROM topics UNION ALL SELECT feed_no, origin_no FROM concepts"
        " UNION ALL SELECT feed_no, origin_no FROM questions) r WHERE o = 0"
    )
    assert numbers == list(range(1, school.head + 1))


def test_a_question_arrives_as_the_file_has_it(school: SchoolBuilder) -> None:
    school.import_course()
    with (COURSE / "questions.csv").open() as file:
        line = next(csv.DictReader(file))
    with school.database.transaction() as cursor:
        cursor.execute(
            "SELECT q.kind, q.stem, q.choices, q.answers, q.source, t.external_id,"
            " (SELECT json_agg(k.external_id) FROM concepts k WHERE q.concept_ids ? replace(k.id::text, '-', ''))"
            " FROM questions q JOIN topics t ON t.id = q.topic_id WHERE q.external_id = %s",
            (line["question_id"],),
        )
        assert cursor.fetchone() == (
            line["type"],
            line["stem"],
            json.loads(line["choices_json"]),
            json.loads(line["answers_json"]),
            line["source_url"],
            line["topic_id"],
            [line["concept_ids"]],
        )


def test_a_dry_run_says_what_would_change_and_writes_nothing(school: SchoolBuilder, folder: Path) -> None:
    before = _everything(school)
    report = school.import_course(folder, dry_run=True)
    assert {table: counts.created for table, counts in report.tables.items()} == {
        "topics": 3,
        "concepts": 2,
        "questions": 2,
        "topic_prerequisites": 1,
    }
    assert report.feed_first is None
    assert _everything(school) == before


def test_only_rows_that_changed_take_a_new_feed_number(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    head, id_ = school.head, school.value("SELECT id FROM concepts WHERE external_id = 'k1'")
    (folder / "concepts.csv").write_text(CONCEPTS + "k1,t1,Adding up,0.9\nk2,t2,Taking away,0.85\n")
    report = school.import_course(folder)
    assert (report.feed_first, report.feed_last, report.changes) == (head + 1, head + 1, 1)
    assert school.value("SELECT title FROM concepts WHERE id = %s AND feed_no = %s", id_, head + 1) == "Adding up"


def test_rows_that_vanished_stay_unless_they_are_to_be_retired(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    for name in ("topics.csv", "concepts.csv", "questions.csv"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:-1]))
    (folder / "prerequisites.csv").write_text(PREREQUISITES)
    assert school.import_course(folder).changes == 0
    head = school.head
    report = school.import_course(folder, retire=True)
    assert {table: counts.retired for table, counts in report.tables.items() if counts.retired} == {
        "topics": 1,
        "concepts": 1,
        "questions": 1,
        "topic_prerequisites": 1,
    }
    assert school.head == head + 4
    for table, external_id in (("topics", "t2"), ("concepts", "k2"), ("questions", "q2")):
        assert school.value(f"SELECT retired_at_ms IS NOT NULL AND feed_no > %s FROM {table} WHERE external_id = %s", head, external_id)
    assert school.value("SELECT scope || table_name FROM tombstones WHERE feed_no > %s", head) == "schooltopic_prerequisites"
    assert school.import_course(folder, retire=True).changes == 0


def test_what_was_retired_and_is_back_in_the_files_is_in_use_again(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    whole = (folder / "questions.csv").read_text()
    (folder / "questions.csv").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    school.import_course(folder, retire=True)
    (folder / "questions.csv").write_text(whole)
    assert school.import_course(folder).tables["questions"].changed == 1
    assert school.value("SELECT count(*) FROM questions WHERE retired_at_ms IS NULL") == 2


def test_retiring_touches_neither_another_course_nor_a_table_without_a_file(school: SchoolBuilder, folder: Path, tmp_path: Path) -> None:
    school.import_course()
    school.import_course(folder)
    for name in ("questions.csv", "prerequisites.csv", "concepts.csv"):
        (folder / name).unlink()
    assert school.import_course(folder, retire=True).changes == 0


def test_a_concept_of_two_courses_keeps_the_topics_of_both(school: SchoolBuilder, folder: Path, tmp_path: Path) -> None:
    school.import_course(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "topics.csv").write_text("topic_id,title\nx,Elsewhere\n")
    (other / "concepts.csv").write_text(CONCEPTS + "k1,x,Adding,0.85\n")
    school.import_course(other)
    assert school.value("SELECT jsonb_array_length(topic_ids) FROM concepts WHERE external_id = 'k1'") == 2
    assert school.import_course(other).changes == 0


def test_problems_of_all_files_are_reported_together_by_file_and_line(school: SchoolBuilder, folder: Path) -> None:
    _append(folder / "topics.csv", "t3,nowhere,Third,lesson,x,140\nt1,c,First again,lesson,4,\n\n,c,No id,lesson,5,\n")
    _append(folder / "concepts.csv", "k1,t2,Another title,0.85\nk9,nowhere,Ninth,2\nk2,t2,Taking away,0.85\n")
    _append(
        folder / "questions.csv",
        'q3,nowhere,k7,riddle,"a\nstem of two lines",,"[]",\n'
        'q4,t1,k1,multiple_choice,Choose,"[""a""]","[""b""]",\n'
        "q5,t1,k1,short_text,Say,,not json,\n"
        "q6,t1\n",
    )
    assert sorted(_problems(school, folder)) == sorted(
        [
            ("topics.csv:5", "invalid_value"),  # position
            ("topics.csv:5", "invalid_value"),  # weightage
            ("topics.csv:5", "unknown_topic"),
            ("topics.csv:6", "duplicate_id"),
            ("topics.csv:8", "missing_value"),
            ("concepts.csv:4", "contradiction"),
            ("concepts.csv:5", "invalid_value"),
            ("concepts.csv:5", "unknown_topic"),
            ("concepts.csv:6", "duplicate_id"),
            ("questions.csv:4", "invalid_value"),  # type
            ("questions.csv:4", "invalid_value"),  # no answer
            ("questions.csv:4", "unknown_concept"),
            ("questions.csv:4", "unknown_topic"),
            ("questions.csv:6", "invalid_value"),
            ("questions.csv:7", "invalid_value"),
            ("questions.csv:8", "wrong_length"),
        ]
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("topics.csv", b"", ("topics.csv:1", "empty")),
        ("topics.csv", b"topic_id,name\na,b\n", ("topics.csv:1", "missing_column")),
        ("topics.csv", b"topic_id,title,title\na,b,c\n", ("topics.csv:1", "duplicate_column")),
        ("topics.csv", b"topic_id,title\na,b\nc,\xff\n", ("topics.csv:3", "not_utf8")),
        ("topics.csv", b'topic_id,title\na,b\nc,"open', ("topics.csv:3", "not_csv")),
        ("topics.csv", b"topic_id,title\na,b\x00\n", ("topics.csv:2", "invalid_value")),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    school: SchoolBuilder, tmp_path: Path, name: str, content: bytes, problem: tuple[str, str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert problem in _problems(school, tmp_path)


def test_a_folder_without_topics_is_refused(school: SchoolBuilder, tmp_path: Path) -> None:
    assert _problems(school, tmp_path) == [("topics.csv", "unreadable")]


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ("t1,t1,\n", ["prerequisites.csv:3"]),
        ("t1,t2,\n", ["prerequisites.csv:2", "prerequisites.csv:3"]),
        ("c,t2,\nt1,c,\n", ["prerequisites.csv:2", "prerequisites.csv:3", "prerequisites.csv:4"]),
    ],
)
def test_prerequisites_in_a_circle_are_refused(school: SchoolBuilder, folder: Path, lines: str, where: list[str]) -> None:
    _append(folder / "prerequisites.csv", lines)
    assert _problems(school, folder) == [(place, "circle") for place in where]


def test_a_circle_closed_by_a_prerequisite_that_is_stored_is_refused(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    (folder / "prerequisites.csv").write_text(PREREQUISITES + "t1,t2,\n")
    assert _problems(school, folder) == [("prerequisites.csv:2", "circle")]
    assert school.import_course(folder, retire=True).changes == 2


def test_a_topic_that_lies_under_itself_is_refused(school: SchoolBuilder, folder: Path) -> None:
    (folder / "topics.csv").write_text(TOPICS + "c,t2,Course,course,1,\nt1,c,First,lesson,1,60\nt2,c,Second,lesson,2,40\n")
    assert _problems(school, folder) == [("topics.csv:2", "circle"), ("topics.csv:4", "circle")]


def test_spaces_around_values_headings_in_capitals_and_what_stands_for_nothing_do_not_matter(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    text = (folder / "topics.csv").read_text()
    text = text.replace("topic_id,parent_id", "Topic_ID, Parent_id ").replace("c,,Course", "c,N/A, Course ")
    (folder / "topics.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert school.import_course(folder).changes == 0


def test_a_file_in_a_wrong_format_does_not_drown_its_reader(school: SchoolBuilder, tmp_path: Path) -> None:
    (tmp_path / "topics.csv").write_text("topic_id,title\n" + "x\n" * 1000)
    problems = _problems(school, tmp_path)
    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1][1] == "more"


def test_an_import_is_written_down(school: SchoolBuilder, folder: Path) -> None:
    school.import_course(folder)
    assert school.value("SELECT detail->'questions'->'created' FROM audit_log WHERE action = 'course.imported'") == 2


def test_two_imports_of_one_course_at_once_bring_it_in_once(school: SchoolBuilder, folder: Path) -> None:
    start = threading.Barrier(2)
    changes: list[int] = []

    def import_it() -> None:
        start.wait(30)
        changes.append(school.import_course(folder).changes)

    threads = [threading.Thread(target=import_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changes) == [0, 8]


def test_progress_is_told_up_to_the_end(school: SchoolBuilder, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    school.import_course(folder, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (8, 8)
    assert told == sorted(told)


def test_other_schools_are_not_touched(school: SchoolBuilder, folder: Path) -> None:
    other = SchoolBuilder.build(school.database)
    school.import_course(folder)
    assert other.head == 0
    other.import_course(shutil.copytree(folder, folder / "copy"))
    assert school.value("SELECT count(*) FROM topics WHERE school_id = %s", school.id) == 3


def test_files_of_any_name_with_hours_and_reasons_make_a_course_of_topics_alone(school: SchoolBuilder, tmp_path: Path) -> None:
    topics, needs = tmp_path / "syllabus-knots.csv", tmp_path / "knots-needs.csv"
    topics.write_text(
        'topic_id,title,estimated_hours,summary\nbend,Bends,1.079,"Two ropes, one knot"\nhitch,Hitches,,\nsplice, Splices ,0.005,\n'
    )
    needs.write_text("topic_id,prerequisite_topic_id,reason\nbend,hitch,A bend is a hitch around a rope.\nsplice,bend,\n")
    files = CourseFiles(topics, prerequisites=needs, topics_are_concepts=True)
    report = school.import_course(files)
    assert {table: counts.created for table, counts in report.tables.items()} == {"topics": 3, "concepts": 3, "topic_prerequisites": 2}
    assert school.value("SELECT json_agg(json_build_array(external_id, title, estimated_minutes) ORDER BY external_id) FROM topics") == [
        ["bend", "Bends", 65], ["hitch", "Hitches", None], ["splice", "Splices", 1],
    ]  # fmt: skip
    assert school.value("SELECT json_agg(reason ORDER BY reason) FROM topic_prerequisites") == ["A bend is a hitch around a rope.", None]
    assert school.value("SELECT string_agg(external_id, ' ' ORDER BY external_id) FROM concepts") == "topic:bend topic:hitch topic:splice"
    assert school.import_course(files).changes == 0
    assert school.import_course(CourseFiles(topics, prerequisites=needs)).changes == 0  # concepts that are not spoken of stay
    topics.write_text("topic_id,title,estimated_hours\nbend,Bends,long\nhitch,Hitches,-1\n")
    with pytest.raises(InvalidInput) as refused:
        school.import_course(files)
    places = [(problem.path, problem.code) for problem in refused.value.problems]
    assert places[:2] == [("syllabus-knots.csv:2", "invalid_value"), ("syllabus-knots.csv:3", "invalid_value")] or {
        ("syllabus-knots.csv:2", "invalid_value"), ("syllabus-knots.csv:3", "invalid_value"),
    } <= set(places)  # fmt: skip


def test_a_course_may_be_turned_upside_down_and_what_vanished_below_a_new_top_is_retired(school: SchoolBuilder, folder: Path) -> None:
    for name in ("concepts.csv", "questions.csv", "prerequisites.csv"):
        (folder / name).unlink()
    school.import_course(folder)
    (folder / "topics.csv").write_text(TOPICS + "t1,,First,course,1,\nc,t1,Course,lesson,1,\n")
    school.import_course(folder, retire=True)
    parents = "SELECT json_object_agg(t.external_id, p.external_id) FROM topics t LEFT JOIN topics p ON p.id = t.parent_id WHERE t.retired_at_ms IS NULL"
    assert school.value(parents) == {"t1": None, "c": "t1"}
    (folder / "topics.csv").write_text(TOPICS + "all,,All,course,1,\nt1,all,First,lesson,1,\n")
    school.import_course(folder, retire=True)
    assert school.value(parents) == {"all": None, "t1": "all"}
