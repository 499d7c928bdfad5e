"""The teachers' pages, as teachers use them: what they see at a look, what they can ask further, and who may look at all."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from domain.ids import dashed
from tests.pages.classrooms import CONCEPTS, STUDENTS, ClassSite, class_site
from tests.support.browsing import BETWEEN, DESK, PHONE, Visit, visiting
from tests.support.classroom import Given
from tests.support.cloud import SchoolBuilder

PAGES = ("", "?by=concepts", "?as=table", "/help", "/questions", "/practice")


@pytest.fixture
def site(cloud_school: SchoolBuilder) -> Iterator[ClassSite]:
    with class_site(cloud_school) as made:
        yield made


@pytest.fixture
def filled(site: ClassSite) -> ClassSite:
    site.fill()
    return site


def names(visit: Visit) -> list[str]:
    """The students of the heat map, from top to bottom."""
    return [str(name) for name in visit.page.locator(".heat-map tbody th").all_inner_texts()]


def strip(visit: Visit, student: str) -> Any:
    """The cells of a student."""
    return visit.page.get_by_role("row", name=re.compile(f"^{student}")).get_by_role("img")


# --- the heat map


def test_a_teacher_comes_from_the_list_of_classes_to_where_they_stand(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open("/pages/classes")
        assert "8a" not in visit.text()
        filled.room.other_class("10c")
        listed = re.findall(r'large-link" href="[^"]+"><bdi>(\w+)<', filled.get("/pages/classes", "root").get_data(as_text=True))
        assert listed == ["7b", "8a", "10c"], "as people count"
        visit.page.get_by_role("link", name="7b").click()
        visit.wait_for("Where they stand")
        assert "6 students, 2 topics." in visit.text()
        assert visit.page.title() == "7b · Carrel"


def test_the_heat_map_says_each_student_in_words_and_each_cell_under_the_pointer(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path + "?by=concepts")
        assert strip(visit, "Ada").get_attribute("aria-label") == "Ada: 4 mastered"
        assert strip(visit, "Fay").get_attribute("aria-label") == "Fay: 4 not started"
        titles = strip(visit, "Ada").locator("title").all_text_contents()
        assert re.fullmatch(r"\d halves: 9\d of 100, mastered, 12 answers", min(titles, key=lambda t: t[2:]))


def test_students_stand_in_the_order_of_need_and_in_any_other_that_is_asked_for(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        by_need = names(visit)
        assert by_need[0] == "Ben"
        assert set(by_need[-2:]) == {"Ada", "Fay"}
        visit.page.get_by_role("link", name="By name").click()
        visit.page.locator('.choices [aria-current]:has-text("By name")').wait_for()
        assert names(visit) == [student.title() for student in STUDENTS]
        visit.page.get_by_role("link", name="Oldest data first").click()
        visit.page.locator('.choices [aria-current]:has-text("Oldest")').wait_for()
        assert names(visit)[0] == "Fay"


def test_too_few_answers_are_grey_and_say_nothing_about_the_student(browser: Any, site: ClassSite) -> None:
    site.room.answer([Given("ada", f"halves-{n}", 1, True) for n in range(2)])
    with site.visit(browser) as visit:
        visit.open(site.path + "?by=concepts")
        assert strip(visit, "Ada").get_attribute("aria-label") == "Ada: 1 too few answers, 1 not started"
        assert strip(visit, "Ada").locator(".step-few").count() == 1
        assert strip(visit, "Ada").locator(".step-few text").count() == 0
        visit.page.get_by_role("link", name="Table").click()
        visit.wait_for("answers alone")
        row = visit.page.get_by_role("row", name=re.compile("^Ada"))
        assert row.get_by_role("cell").all_inner_texts()[1:] == ["(2)", "–"]


def test_a_topic_opens_into_its_concepts_and_the_way_back_is_there(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        visit.page.get_by_role("link", name="fractions").click()
        visit.wait_for("6 students, 2 concepts.")
        assert visit.page.locator(".column-list").inner_text().split("\n")[0].endswith("halves")
        visit.page.get_by_role("link", name="All topics").click()
        visit.wait_for("6 students, 2 topics.")


def test_the_table_has_what_the_picture_shows(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path + "?by=concepts")
        shown = strip(visit, "Cem").locator("text").all_text_contents()
        visit.open(filled.path + "?by=concepts&as=table")
        row = visit.page.get_by_role("row", name=re.compile("^Cem"))
        assert [cell.partition(" (")[0] for cell in row.get_by_role("cell").all_inner_texts()[1:]] == shown
        region = visit.page.get_by_role("region", name="Mastery in figures")
        region.focus()
        visit.has_focus("region", "Mastery in figures")


def test_the_age_of_every_students_data_is_told(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        assert "Of 6 students nothing has come for 7 days or more." in visit.text()
        ages = dict(zip(names(visit), visit.page.locator(".heat-map .age").all_inner_texts(), strict=True))
        assert ages["Ada"] == "9 days ago"
        assert ages["Fay"] == "no data yet"


@pytest.fixture
def dense(site: ClassSite) -> ClassSite:
    """64 concepts: Ada has answered the 61st and the 64th, each once, Ben the last four times."""
    site.room.publish_concepts("fractions", [f"concept {n}" for n in range(60)])
    site.room.answer([Given("ada", "halves-0", 1, True), Given("ada", "sums-0", 0.5, True)])
    site.room.answer([Given("ben", "sums-0", 0.4 - n / 10, True) for n in range(4)])
    return site


def test_two_hundred_concepts_fit_without_figures(browser: Any, dense: ClassSite) -> None:
    with dense.visit(browser) as visit:
        visit.open(dense.path + "?by=concepts")
        shapes = strip(visit, "Ada").locator("path")
        assert [shapes.nth(n).get_attribute("d") for n in range(shapes.count())] == ["M60 0h1v24h-1zM63 0h1v24h-1z"], "as it is taught"
        assert strip(visit, "Ada").locator("text").count() == 0
        assert visit.overflow_px() <= 0
        assert visit.grave_findings() == []


def test_a_cell_of_a_large_map_is_said_under_the_pointer(browser: Any, dense: ClassSite) -> None:
    with dense.visit(browser) as visit:
        visit.open(dense.path + "?by=concepts")
        visit.wait_for("Point at a cell")
        box = strip(visit, "Ben").bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] * 63.5 / 64, box["y"] + box["height"] / 2)
        visit.page.get_by_text(re.compile(r"^Ben, 64 sums: \d\d of 100, \w+, 4 answers$")).first.wait_for()
        visit.page.mouse.move(box["x"] + box["width"] * 0.5 / 64, box["y"] + box["height"] / 2)
        visit.wait_for("Ben, 1 concept 0: not started")


def test_a_cell_of_a_large_map_is_found_by_arrow_keys_and_read_out(browser: Any, dense: ClassSite) -> None:
    with dense.visit(browser) as visit:
        visit.open(dense.path + "?by=concepts&order=name")
        visit.wait_for("Point at a cell")
        strip(visit, "Ada").focus()
        visit.page.keyboard.press("End")
        visit.is_announced("Ada, 64 sums: too few answers, 1 answer")
        visit.page.keyboard.press("ArrowLeft")
        visit.is_announced("Ada, 63 products: not started")
        visit.page.keyboard.press("ArrowDown")
        visit.is_announced("Ben, 63 products: not started")
        visit.page.keyboard.press("Home")
        visit.is_announced("Ben, 1 concept 0: not started")
        assert visit.grave_findings() == []


# --- the other tables


def test_who_needs_help_is_named_with_the_rule(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        visit.page.get_by_role("link", name="Who needs help").click()
        visit.wait_for("Who may need help")
        needy = visit.page.get_by_role("region", name="Who may need help")
        assert needy.locator(".card-list strong").first.inner_text() == "Ben"
        assert "halves: 12 wrong answers in a row." in needy.inner_text()
        assert "And 2 concepts more." in needy.inner_text()
        assert "Ada" not in needy.inner_text()
        off_plan = visit.page.get_by_role("region", name="Off plan").inner_text()
        assert "Ben" in off_plan
        assert "300 min behind" in off_plan


def test_groups_name_the_prerequisite_and_who_lacks_it(browser: Any, filled: ClassSite) -> None:
    filled.room.answer([Given(s, f"halves-{n % 3}", 0.05, False, "1") for s in ("cem", "dora") for n in range(8)])
    with filled.visit(browser) as visit:
        visit.open(filled.path + "/help")
        found = {group.title: group for group in filled.room.figures.groups(filled.room.school.id, filled.room.class_id)}
        text = visit.page.get_by_role("region", name="Groups for a lesson").inner_text()
        assert found
        for title, group in found.items():
            assert title in text
            assert all(name in text for name in group.names)
            assert "Needed for equations." in text


def test_common_wrong_answers_say_how_many_were_sure(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path + "/questions")
        wrong = visit.page.get_by_role("region", name="Common wrong answers")
        text = wrong.inner_text()
        assert "“41”" in text
        assert re.search(r"\d students? sure", text)
        label = wrong.get_by_role("img").first.get_attribute("aria-label")
        assert re.fullmatch(r"\d of 5 students, \d+ %, between \d+ % and \d+ %", label)


def test_a_question_shows_facility_and_what_was_answered_as_bars(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path + "/questions")
        items = visit.page.get_by_role("region", name="Questions", exact=True)
        first = items.locator("details").first
        first.locator("summary").click()
        assert "Facility" in first.inner_text()
        assert first.get_by_role("list", name="Answers at first try").get_by_role("img").count() >= 1


def test_questions_can_be_looked_at_by_topic(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        visit.page.get_by_role("link", name="fractions").click()
        visit.page.get_by_role("link", name="Its questions").click()
        visit.wait_for("Questions of one topic")
        assert "About halves-0?" in visit.text()
        assert "About sums-0?" not in visit.text()
        visit.page.get_by_role("link", name="All questions").click()
        visit.wait_for("About sums-0?")


def test_time_and_curves_are_drawn_and_told(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.path + "/practice")
        row = visit.page.get_by_role("row", name=re.compile("^Ada"))
        assert re.fullmatch(r"Ada: \d+ minutes on \d+ of 28 days", row.get_by_role("img").first.get_attribute("aria-label"))
        curves = visit.page.get_by_role("region", name="Learning curves").get_by_role("img")
        assert curves.count() == len(CONCEPTS)
        assert re.match(r"\w+: wrong at answer 1: \d+% of 5 students; at answer 12: ", curves.first.get_attribute("aria-label"))


def test_one_student_is_shown_and_the_look_is_written_into_the_audit_log(browser: Any, filled: ClassSite) -> None:
    assert filled.audit() == []
    with filled.visit(browser) as visit:
        visit.open(filled.path)
        visit.page.get_by_role("link", name="Ben").click()
        visit.wait_for("Ben may need help.")
        assert "halves: 12 wrong answers in a row." in visit.text()
        assert "0\nof 300 planned minutes done" in visit.text().replace("0 of", "0\nof")
        plan = visit.page.get_by_role("region", name="Plan, the next seven days")
        assert [item.split() for item in plan.get_by_role("listitem").all_inner_texts()] == [
            ["5", "Jan", "halves", "30", "min", "next"],
            ["7", "Jan", "halves", "30", "min", "next"],
        ]
        assert visit.page.get_by_role("region", name="Latest answers").get_by_text("wrong").count() == 20
        assert visit.page.get_by_role("region", name="Over four weeks").get_by_role("img").count() == 2
    assert filled.audit() == [("student.read", filled.room.ids["ben"])]


def test_a_student_who_has_not_answered_has_a_page_that_says_so(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser) as visit:
        visit.open(filled.student_path("fay"))
        visit.wait_for("Fay has not answered anything yet.")
        assert visit.grave_findings() == []


def test_every_table_can_be_taken_as_csv_with_the_cookie_alone(browser: Any, filled: ClassSite) -> None:
    tables = set()
    with filled.visit(browser) as visit:
        for page in (*PAGES, filled.student_path("ada").removeprefix(filled.path)):
            visit.open(filled.path + page)
            links = visit.page.get_by_role("link", name="CSV")
            tables |= {links.nth(n).get_attribute("href") for n in range(links.count())}
        read = {}
        for address in tables:
            answer = visit.page.request.get(filled.url + address)
            assert answer.status == 200, address
            read[address.rpartition("/")[2]] = list(csv.reader(io.StringIO(answer.text().removeprefix("\ufeff"))))
    expected = {"mastery", "needs-help", "items", "wrong-answers", "time", "curves", "groups", "off-plan", "out-of-reach"}
    assert {name.removesuffix(".csv") for name in read} - {dashed(filled.room.ids["ada"])} == expected
    assert read["off-plan.csv"][1][1] == "Ben"


# --- who may look


def test_only_teachers_of_the_class_and_administrators_may_look(filled: ClassSite) -> None:
    paths = [filled.path + page for page in PAGES] + [filled.student_path("ada")]
    for path in paths:
        assert [filled.get(path, who).status_code for who in ("grace", "root", "hal")] == [200, 200, 403], path
        assert "Ada" not in filled.get(path, "hal").get_data(as_text=True)
    assert [filled.get(path, "grace").status_code for path in (f"{filled.path}/students/{dashed(filled.room.ids['7b'])}",)] == [404]
    assert filled.get(f"/pages/classes/{dashed(filled.room.ids['ada'])}", "root").status_code == 404
    assert filled.get("/pages/classes/nothing", "grace").status_code == 404
    for query in ("?order=sideways", "?as=poem", "?by=luck"):
        assert filled.get(filled.path + query).status_code == 422
    assert filled.get(filled.path + "?topic=x").status_code == 404


def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_told_nothing(filled: ClassSite) -> None:
    client = filled.staff.app.test_client()
    for path in ("/pages/classes", *(filled.path + page for page in PAGES), filled.student_path("ada")):
        answer = client.get(path)
        assert answer.status_code == 303
        assert answer.headers["Location"].startswith("/pages/sign-in?to=%2Fpages%2Fclasses")
        assert answer.data == b""


def test_another_teacher_reads_in_words_that_this_is_not_one_of_theirs(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser, "hal") as visit:
        visit.expected.append("403")
        visit.open(filled.path)
        visit.wait_for("This is not one of your classes.")
        assert visit.grave_findings() == []


def test_the_pages_may_run_and_load_nothing_from_elsewhere_and_are_not_kept(filled: ClassSite) -> None:
    headers = filled.get(filled.path).headers
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"


# --- for everybody


@pytest.mark.parametrize(("viewport", "scheme"), [(PHONE, "dark"), (DESK, "light")], ids=["phone, dark", "desk, light"])
def test_axe_finds_nothing_grave_and_nothing_is_wider_than_the_window(
    browser: Any, filled: ClassSite, viewport: dict[str, int], scheme: str
) -> None:
    with filled.visit(browser, viewport=viewport, color_scheme=scheme) as visit:
        for page in (*PAGES, filled.student_path("ben").removeprefix(filled.path)):
            visit.open(filled.path + page)
            assert visit.grave_findings() == [], page
            for size in (*BETWEEN, viewport):
                visit.resize(size)
                assert visit.overflow_px() <= 0, (page, size)


def test_an_empty_class_says_what_will_come(browser: Any, site: ClassSite) -> None:
    sentences = {
        "": "Nobody has answered a question yet.",
        "/help": "No rule finds anybody of 6 students.",
        "/questions": "No wrong answer is common yet.",
        "/practice": "A curve needs five students",
    }
    with site.visit(browser) as visit:
        for page, sentence in sentences.items():
            visit.open(site.path + page)
            visit.wait_for(sentence)
            assert visit.grave_findings() == [], page


def test_the_pages_need_no_script_and_no_mouse(browser: Any, filled: ClassSite) -> None:
    with filled.visit(browser, java_script_enabled=False) as visit:
        visit.open(filled.path)
        for _ in range(40):
            visit.page.keyboard.press("Tab")
            if visit.page.locator(".heat-map a:focus").count():
                break
        assert visit.page.locator(".heat-map a:focus").inner_text() == "Ben"
        visit.page.keyboard.press("Enter")
        visit.wait_for("Ben may need help.")


def test_names_and_answers_that_look_like_html_stay_text(browser: Any, filled: ClassSite) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    school = filled.room.school
    with school.database.transaction(school=school.id) as cursor:
        cursor.execute("UPDATE users SET display_name = %s WHERE school_id = %s AND username = 'ben'", (hostile, school.id))
        cursor.execute("UPDATE concepts SET title = %s WHERE school_id = %s", ("</title><script>alert(2)</script>", school.id))
        cursor.execute("UPDATE questions SET stem = %s WHERE school_id = %s", ("<b onclick=alert(3)>?</b>", school.id))
    filled.room.answer([Given(s, "sums-0", 0.01, False, "<i>7</i>", confidence=4) for s in ("ben", "cem", "dora")])
    with filled.visit(browser) as visit:
        for page in (*PAGES, filled.student_path("ben").removeprefix(filled.path)):
            visit.open(filled.path + page)
            assert visit.page.locator("main img, main script, main b, main i").count() == 0, page
        assert hostile in visit.text()
        assert "<i>7</i>" in visit.text()


def test_signed_in_by_hand_a_teacher_lands_on_the_page_that_was_asked_for(browser: Any, filled: ClassSite) -> None:
    with visiting(browser, filled.url, cookies=True) as visit:
        visit.open(filled.path + "/help")
        visit.page.get_by_label("User name").fill("grace")
        visit.page.get_by_label("Password").fill("correct horse")
        visit.page.get_by_role("button", name="Sign in").click()
        visit.wait_for("Who may need help")
