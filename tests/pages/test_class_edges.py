"""The teachers' pages of classes that are unlike most: of one, of two hundred, with names and titles of every kind."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages.classrooms import ClassSite, class_site
from tests.support.browsing import PHONE
from tests.support.classroom import Given
from tests.support.cloud import SchoolBuilder

PAGES = ("", "?by=concepts", "?by=concepts&as=table", "/help", "/questions", "/practice")
ARABIC = "محمد الأحمد"
LONG = "Maximiliana-Theodora " * 5 + "Hohenstein" * 10


@pytest.fixture
def site(cloud_school: SchoolBuilder) -> Iterator[ClassSite]:
    with class_site(cloud_school) as made:
        yield made


def text_of(site: ClassSite, path: str) -> str:
    """A page without its tags."""
    answer = site.get(site.path + path)
    assert answer.status_code == 200
    return re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True).partition("<main")[2])


def leave(site: ClassSite, *stay: str) -> None:
    """Takes everybody else out of the class."""
    room = site.room
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute(
            "DELETE FROM class_members WHERE role = 'student' AND class_id = %s AND NOT user_id = ANY(%s::uuid[])",
            (room.class_id, [room.ids[student] for student in stay]),
        )


def test_of_one_student_nothing_is_told_as_a_share_of_the_class(site: ClassSite) -> None:
    leave(site, "ben")
    site.room.answer([Given("ben", f"halves-{n % 3}", 2 - n / 10, False, "41", confidence=4) for n in range(9)])
    for page in ("", "/help", "/questions", "/practice"):
        told = (
            text_of(site, page)
            .partition("The rules")[0]
            .replace("20 % of those who answered", "")
            .replace("with 95 %", "")
            .replace("top is 100 %", "")
        )
        assert "%" not in told, page
    assert "1 student, 1 topic." in text_of(site, "")
    assert "A curve needs five students" in text_of(site, "/practice")


def test_a_wrong_answer_of_three_of_four_is_told_in_numbers_alone(site: ClassSite) -> None:
    leave(site, "ada", "ben", "cem", "dora")
    site.room.answer([Given(s, "halves-0", 2, s == "ada", "41", confidence=4) for s in ("ada", "ben", "cem", "dora")])
    page = site.get(site.path + "/questions").get_data(as_text=True)
    wrong = page.partition("wrong-head")[2].partition("items-head")[0]
    assert "3 of 4 students" in wrong
    assert re.findall(r"\d+ %", wrong) == ["20 %", "95 %"], "which are those of the explanation"
    assert 'class="chart bar' not in page


def test_a_class_without_students_and_a_student_without_answers_have_pages(site: ClassSite) -> None:
    assert "has not answered anything yet" in text_of(site, site.student_path("fay").removeprefix(site.path))
    leave(site)
    for page in PAGES:
        assert text_of(site, page)
    assert "There are no students in this class yet." in text_of(site, "")


def test_two_hundred_students_are_all_shown(site: ClassSite) -> None:
    room = site.room
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute(
            "WITH made AS (INSERT INTO users (school_id, id, role, username, display_name, feed_no)"
            " SELECT %(school)s, gen_random_uuid(), 'student', 'n' || n, 'Pupil ' || n, 1 FROM generate_series(1, 200) AS n RETURNING id)"
            " INSERT INTO class_members (school_id, id, class_id, user_id, role, feed_no)"
            " SELECT %(school)s, gen_random_uuid(), %(class)s, id, 'student', 1 FROM made",
            {"school": room.school.id, "class": room.class_id},
        )
    room.answer([Given("ada", "halves-0", 1, True)])
    page = text_of(site, "")
    assert "206 students, 1 topic." in page
    assert len(re.findall(r"Pupil \d+", page)) == 200


def test_a_class_of_more_students_than_figures_are_made_for_says_so(site: ClassSite, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "figures are of the first" not in text_of(site, "/help")
    for module in ("cloud_api.analytics.roster", "cloud_api.routes.class_pages"):
        monkeypatch.setattr(f"{module}.STUDENTS_MAX", 4)
    assert "figures are of the first 4 of 6 students" in text_of(site, "/help")
    assert site.get(site.path + "/rules").status_code == 200


def test_titles_in_every_script_and_of_any_length_stay_within_the_page(browser: Any, site: ClassSite) -> None:
    site.fill()
    school = site.room.school
    with school.database.transaction(school=school.id) as cursor:
        cursor.execute("UPDATE users SET display_name = %s WHERE username = 'ben'", (ARABIC,))
        cursor.execute("UPDATE users SET display_name = %s WHERE username = 'cem'", (LONG,))
        cursor.execute("UPDATE topics SET title = %s WHERE title = 'fractions'", (LONG,))
        cursor.execute("UPDATE concepts SET title = %s WHERE title = 'halves'", (ARABIC * 12,))
        cursor.execute("UPDATE questions SET stem = %s WHERE stem LIKE 'About sums%%'", ("x" * 300,))
    with site.visit(browser, viewport=PHONE) as visit:
        for page in (*PAGES, site.student_path("ben").removeprefix(site.path)):
            visit.open(site.path + page)
            assert visit.overflow_px() <= 0, page
            assert visit.grave_findings() == [], page
        visit.open(site.path + "/help")
        assert visit.page.locator("a bdi", has_text=ARABIC).count() >= 1, "so that what stands beside the name keeps its order"


def test_questions_are_paged_and_ordered_by_the_address(browser: Any, site: ClassSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_api.pages.classes.questions.ITEMS_MAX", 5)
    site.fill()
    with site.visit(browser) as visit:
        visit.open(site.path + "/questions")
        items = visit.page.get_by_role("region", name="Questions", exact=True)
        assert items.locator("details").count() == 5
        first = items.locator(".stem").all_inner_texts()
        assert "1 to 5 of 12" in items.inner_text()
        items.get_by_role("link", name="Next questions").click()
        visit.wait_for("6 to 10 of 12")
        assert not set(first) & set(items.locator(".stem").all_inner_texts())
        items.get_by_role("link", name="Easiest").click()
        visit.wait_for("1 to 5 of 12")
        shares = [int(share) for share in re.findall(r"(\d+) % right", items.inner_text())]
        assert shares == sorted(shares, reverse=True)
        items.get_by_role("link", name="To look at", exact=True).click()
        visit.wait_for("None of them is to be looked at.")
        assert visit.grave_findings() == []
    for query in ("?page=0", "?page=x", "?order=sideways", "?flagged=maybe", "?wrong=99999"):
        assert site.get(site.path + "/questions" + query).status_code == 422, query
    assert "There are no more." in text_of(site, "/questions?page=900")
    beyond = site.get(site.path + "/questions?page=900").get_data(as_text=True)
    assert re.findall(r'rel="prev" href="[^"]*\?([^"]*)"', beyond) == ["page=3"], "the last one that there is"


def test_pages_and_tables_come_compressed_to_whoever_takes_it(site: ClassSite) -> None:
    site.fill()
    client, grace = site.staff.app.test_client(), site.staff.token("grace")
    for path in (site.path, f"{site.path.replace('/pages', '/v1')}/items", f"{site.path.replace('/pages', '/v1')}/items.csv"):
        plain, small = client.get(path, headers=grace), client.get(path, headers={**grace, "Accept-Encoding": "gzip"})
        assert (plain.headers.get("Content-Encoding"), small.headers["Content-Encoding"]) == (None, "gzip")
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert gzip.decompress(small.data) == plain.data
        assert len(small.data) < len(plain.data) / 2


def test_an_item_that_answers_have_done_is_shown_as_done(browser: Any, site: ClassSite) -> None:
    site.room.plan("ada", [(0, 10, "planned"), (-1, 20, "skipped")])
    site.room.answer([Given("ada", f"halves-{n}", 0.1 - n / 100, True) for n in range(3)])
    with site.visit(browser) as visit:
        visit.open(site.student_path("ada"))
        plan = visit.page.get_by_role("region", name="Plan, the next seven days")
        items = plan.get_by_role("listitem").all_inner_texts()
        assert [item.split() for item in items] == [
            ["5", "Jan", "halves", "done", "10", "min"],
            ["6", "Jan", "halves", "skipped", "20", "min"],
        ]
        assert visit.grave_findings() == []


def test_what_plans_do_not_reach_is_told_with_names_and_numbers(site: ClassSite) -> None:
    room = site.room
    assert "No student has a plan for an exam to come." in text_of(site, "/help")
    for student in ("ada", "ben"):
        room.plan(student, [], learnt_share=0.9)
        room.exam(student, 20)
    assert "reach every topic before the exam" in text_of(site, "/help")
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute(
            "UPDATE study_plans SET forecast = jsonb_build_object('left_out', jsonb_build_array(%s::text)) WHERE student_id = %s",
            (room.ids["sums"], room.ids["ben"]),
        )
    told = " ".join(text_of(site, "/help").partition("What the plans do not reach")[2].split())
    assert "equations left out by 1 of 2 plans Ben" in told
