"""Plan rules on the pages of a class: a teacher says what plans have to respect, reads what is in force, and takes it back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from cloud_api.access.doorkeeper import csrf_token
from domain.ids import dashed
from tests.pages.classrooms import STUDENTS, ClassSite, class_site
from tests.support.browsing import PHONE
from tests.support.cloud import SchoolBuilder

# The class's clock stands at 5 January 2026.
TOMORROW, YESTERDAY = "2026-01-06", "2026-01-04"


@pytest.fixture
def site(cloud_school: SchoolBuilder) -> Iterator[ClassSite]:
    with class_site(cloud_school) as made:
        yield made


def stored(site: ClassSite, what: str = "kind, day") -> list[tuple[Any, ...]]:
    with site.room.school.database.transaction(read_only=True, school=site.room.school.id) as cursor:
        cursor.execute(f"SELECT DISTINCT {what} FROM plan_rules ORDER BY 1, 2")
        return list(cursor.fetchall())


def post(site: ClassSite, path: str, username: str = "grace", **form: str) -> Any:
    return site.staff.app.test_client().post(path, data=form, headers=site.staff.token(username))


def page(site: ClassSite, path: str, username: str = "grace") -> str:
    return str(site.get(path, username).get_data(as_text=True))


def rule_of(site: ClassSite, student: str) -> str:
    with site.room.school.database.transaction(read_only=True, school=site.room.school.id) as cursor:
        cursor.execute("SELECT id FROM plan_rules WHERE student_id = %s ORDER BY id LIMIT 1", (site.room.ids[student],))
        ((found,),) = cursor.fetchall()
        return str(found)


# --- in a browser


def test_a_rule_is_made_read_and_taken_away_by_the_keyboard_alone(browser: Any, site: ClassSite) -> None:
    with site.visit(browser) as visit:
        visit.open(site.path)
        visit.page.get_by_role("link", name="Plan rules").click()
        visit.wait_for("There is no rule")
        press, write = visit.page.keyboard.press, visit.page.keyboard.type
        visit.page.get_by_role("combobox", name="Concept").focus()
        write("thirds")
        press("Tab")
        visit.has_focus("radio", "Have it studied, after what it needs")
        press("Tab")
        write("02022026")
        for _ in range(5):  # the parts of the day
            if visit.page.evaluate("document.activeElement.name") != "student":
                press("Tab")
        write("Ben")
        press("Tab")
        visit.has_focus("button", "Make the rule")
        press("Enter")
        visit.wait_for("The rule is made.")
        listed = visit.page.get_by_role("listitem").filter(has_text="Study “thirds” on Mon 2 Feb 2026")
        assert "For Ben, until it is answered about on that day or later. Made just now by Grace." in listed.inner_text()
        visit.page.get_by_role("button", name="Take away: Study thirds on Mon 2 Feb 2026 for Ben").focus()
        press("Enter")
        visit.wait_for("The rule is taken away.")
        visit.wait_for("There is no rule")
    assert stored(site) == []


def test_what_was_typed_stays_when_it_is_refused(browser: Any, site: ClassSite) -> None:
    with site.visit(browser) as visit:
        visit.expected.append("422")
        visit.open(site.path + "/rules")
        visit.page.get_by_role("combobox", name="Concept").select_option("products")
        visit.page.get_by_role("radio", name="Leave it out").check()
        visit.page.get_by_label("Day to study it").fill(TOMORROW)
        visit.page.get_by_role("button", name="Make the rule").click()
        visit.wait_for("leave the day empty")
        chosen = visit.page.get_by_role("combobox", name="Concept").locator("option:checked").inner_text()
        assert (chosen, visit.page.get_by_label("Day to study it").input_value()) == ("products", TOMORROW)
        assert visit.page.get_by_role("radio", name="Leave it out").is_checked()
        visit.page.get_by_label("Day to study it").fill("")
        visit.page.get_by_role("button", name="Make the rule").click()
        visit.wait_for("all 6 students")


@pytest.mark.parametrize("options", [{"viewport": PHONE}, {"color_scheme": "dark"}, {"java_script_enabled": False}], ids=str)
def test_the_page_is_fit_for_everybody(browser: Any, site: ClassSite, options: dict[str, Any]) -> None:
    post(site, site.path + "/rules", kind="exclude", concept=site.room.ids["halves"])
    post(site, site.path + "/rules", kind="day_off", day=TOMORROW, last_day="2026-01-08")
    for path in (site.path + "/rules", site.student_path("ada") + "/rules"):
        with site.visit(browser, **options) as visit:
            visit.open(path)
            visit.wait_for("No study from Tue 6 Jan 2026 to Thu 8 Jan 2026")
            assert visit.overflow_px() <= 0
            if options.get("java_script_enabled", True):
                assert visit.grave_findings() == []


def test_the_page_of_a_student_leads_to_the_rules_of_that_student(browser: Any, site: ClassSite) -> None:
    with site.visit(browser) as visit:
        visit.open(site.student_path("ada"))
        visit.page.get_by_role("region", name="Plan, the next seven days").get_by_role("link", name="Plan rules").click()
        visit.wait_for("Days without study")
        visit.page.get_by_role("region", name="Days without study").get_by_label("Day", exact=True).fill(TOMORROW)
        visit.page.get_by_role("button", name="Keep free of study").click()
        visit.wait_for("No study on Tue 6 Jan 2026")
    assert stored(site, "student_id, day") == [(site.room.ids["ada"], TOMORROW)]


# --- what is written


def test_a_rule_for_a_class_is_for_each_of_its_students_and_is_taken_from_all(site: ClassSite) -> None:
    assert post(site, site.path + "/rules", kind="day_off", day=TOMORROW).headers["Location"].endswith("done=added")
    assert len(stored(site, "student_id, day")) == len(STUDENTS)
    assert post(site, site.path + "/rules", kind="day_off", day=TOMORROW).headers["Location"].endswith("done=before")
    assert "all 6 students" in page(site, site.path + "/rules")
    assert post(site, f"{site.path}/rules/{rule_of(site, 'cem')}/remove").status_code == 303
    assert stored(site) == []


def test_taken_from_one_student_a_rule_stays_for_the_others_who_are_named(site: ClassSite) -> None:
    post(site, site.path + "/rules", kind="day_off", day=TOMORROW)
    assert post(site, f"{site.student_path('ada')}/rules/{rule_of(site, 'ada')}/remove").status_code == 303
    assert "Ben, Cem, Dora, Emil and 1 more of 6" in page(site, site.path + "/rules")
    assert "There is no rule" in page(site, site.student_path("ada") + "/rules")


def test_a_rule_of_another_student_is_not_taken_away_through_the_page_of_this_one(site: ClassSite) -> None:
    post(site, site.student_path("ben") + "/rules", kind="day_off", day=TOMORROW)
    post(site, f"{site.student_path('ada')}/rules/{rule_of(site, 'ben')}/remove")
    outsider = site.room.school.add_user("gil", "student", ["8a"]).id
    assert post(site, f"{site.path}/students/{dashed(outsider)}/rules", kind="day_off", day=TOMORROW).status_code == 404
    assert stored(site, "student_id, day") == [(site.room.ids["ben"], TOMORROW)]


def test_who_made_and_who_took_away_stands_in_the_audit_log(site: ClassSite) -> None:
    post(site, site.path + "/rules", kind="exclude", concept=site.room.ids["sums"])
    post(site, f"{site.path}/rules/{rule_of(site, 'ada')}/remove", "root")
    with site.room.school.database.transaction(read_only=True, school=site.room.school.id) as cursor:
        cursor.execute(
            "SELECT a.action, u.username, a.detail FROM audit_log a JOIN users u ON a.actor = 'user:' || replace(u.id::text, '-', '')"
            " WHERE action LIKE 'plan_rules.%' ORDER BY a.action"
        )
        found = cursor.fetchall()
    assert found == [
        ("plan_rules.added", "grace", {"students": 6, "kinds": ["exclude"], "added": 6}),
        ("plan_rules.removed", "root", {"removed": 6}),
    ]


REFUSED = (
    ({"kind": "pin"}, "Choose a concept."),
    ({"kind": "pin", "concept": "0" * 32}, "not in the course any more"),
    ({"concept": "halves"}, "studied or left out"),
    ({"kind": "pin", "concept": "halves", "day": "someday"}, "year-month-day"),
    ({"kind": "pin", "concept": "halves", "student": "0" * 32}, "not in the class any more"),
    ({"kind": "day_off"}, "year-month-day"),
    ({"kind": "day_off", "day": "2026-02-30"}, "year-month-day"),
    ({"kind": "day_off", "day": YESTERDAY}, "2026-01-04 is over"),
    ({"kind": "day_off", "day": "2062-01-06"}, "more than 730 days ahead"),
    ({"kind": "day_off", "day": TOMORROW, "last_day": "2026-01-05"}, "comes before the first"),
    ({"kind": "day_off", "day": TOMORROW, "last_day": "2026-03-07"}, "At most 60 days"),
)


def test_what_makes_no_sense_is_refused_in_words_and_writes_nothing(site: ClassSite) -> None:
    headers, client = site.staff.token("grace"), site.staff.app.test_client()
    for form, said in REFUSED:
        sent = {name: site.room.ids.get(value, value) for name, value in form.items()}
        answer = client.post(site.path + "/rules", data=sent, headers=headers)
        assert (answer.status_code, said in answer.get_data(as_text=True)) == (422, True), form
    assert stored(site) == []


def test_a_concept_that_left_the_course_keeps_its_rules_and_is_offered_no_more(site: ClassSite) -> None:
    post(site, site.path + "/rules", kind="exclude", concept=site.room.ids["sums"])
    with site.room.school.database.transaction(school=site.room.school.id) as cursor:
        cursor.execute("UPDATE concepts SET retired_at_ms = 1 WHERE id = %s", (site.room.ids["sums"],))
    told = page(site, site.path + "/rules")
    assert "Leave out “<bdi>sums</bdi>”" in told
    assert f'<option value="{site.room.ids["sums"]}"' not in told


def test_concepts_stand_below_their_topics_in_the_order_of_teaching(site: ClassSite) -> None:
    told = page(site, site.path + "/rules")
    offered = re.findall(r'<optgroup label="([^"]+)">|<option value="\w+">(\w+)</option>', told.split("</select>")[0])
    assert ["".join(found) for found in offered] == ["fractions", "halves", "thirds", "equations", "products", "sums"]


def test_a_day_that_is_over_everywhere_says_so_and_stands_last(site: ClassSite) -> None:
    post(site, site.path + "/rules", kind="day_off", day="2026-01-05")
    post(site, site.path + "/rules", kind="day_off", day=TOMORROW)
    site.room.clock.at_ms += 24 * 3_600_000
    told = page(site, site.path + "/rules")
    assert told.index("on Tue 6 Jan 2026") < told.index("on Mon 5 Jan 2026")
    assert told.count(">over<") == 1


def test_days_off_that_follow_each_other_are_one_line_and_are_taken_away_together(site: ClassSite) -> None:
    rules = site.path + "/rules"
    post(site, rules, kind="day_off", day="2026-02-27", last_day="2026-03-02")
    post(site, rules, kind="day_off", day="2026-03-04")
    post(site, rules, kind="day_off", day="2026-03-05", student=site.room.ids["ben"])
    told = page(site, rules)
    assert re.findall(r"No study (on|from) ([^<]*)</strong>", told) == [
        ("from", "Fri 27 Feb 2026 to Mon 2 Mar 2026"),
        ("on", "Wed 4 Mar 2026"),
        ("on", "Thu 5 Mar 2026"),
    ]
    address, last_day = re.search(r'action="([^"]+/remove)">.*?name="last_day" value="([^"]+)"', told).groups()  # type: ignore[union-attr]
    assert post(site, address, last_day="\x00").status_code == 303, "only the first"
    assert stored(site)[0] == ("day_off", "2026-02-28")
    address = re.search(r'action="([^"]+/remove)">.*?name="last_day"', page(site, rules))[1]  # type: ignore[index]
    assert post(site, address, last_day=last_day).status_code == 303
    assert stored(site) == [("day_off", "2026-03-04"), ("day_off", "2026-03-05")]


def test_a_form_of_another_site_makes_no_rule(site: ClassSite) -> None:
    token = site.staff.post("grace").get_json()["token"]
    client = site.staff.app.test_client()
    client.set_cookie("carrel", token)
    form = {"kind": "day_off", "day": TOMORROW}
    for path in (site.path + "/rules", site.student_path("ada") + "/rules"):
        assert client.post(path, data=form).status_code == 403
    assert stored(site) == []
    assert client.post(site.path + "/rules", data=form | {"csrf_token": csrf_token(token)}).status_code == 303
    assert stored(site) == [("day_off", TOMORROW)]
    assert client.post(f"{site.path}/rules/{rule_of(site, 'ada')}/remove").status_code == 403
    assert stored(site) == [("day_off", TOMORROW)]


def test_too_many_rules_are_refused_and_the_form_is_kept(site: ClassSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_api.plan_rules.RULES_MAX", 2)
    answer = post(site, site.student_path("ada") + "/rules", kind="day_off", day=TOMORROW, last_day="2026-01-08")
    assert answer.status_code == 409
    assert 'value="2026-01-08"' in answer.get_data(as_text=True)


def test_a_class_without_students_gets_no_rules(site: ClassSite) -> None:
    path = f"/pages/classes/{dashed(site.room.ids['8a'])}/rules"
    answer = post(site, path, "hal", kind="day_off", day=TOMORROW)
    assert (answer.status_code, "no students in this class yet" in answer.get_data(as_text=True)) == (422, True)
