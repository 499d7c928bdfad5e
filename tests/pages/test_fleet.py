"""The pages of school IT, as people use them: signing in, the fleet, one device, enrolment codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import EnrolledDevice, Grant, redeem
from cloud_api.devices.replacement import replace
from cloud_api.fleet import hours, reports
from domain.wire import DeviceReport
from tests.security.cloud.staff import PASSWORD, Staffroom
from tests.support.browsing import BETWEEN, PHONE, Visit, visiting
from tests.support.cloud import SchoolBuilder, serving

HOUR_MS, DAY_MS = 3_600_000, 24 * 3_600_000


@dataclass
class Office:
    """A school with people who sign in, and the address of its server."""

    room: Staffroom
    url: str

    @property
    def school(self) -> SchoolBuilder:
        return self.room.school

    def device(self, name: str, seen_ago_ms: int | None = 0, pending: int | None = None, **columns: Any) -> EnrolledDevice:
        """A device of Ada's that was last seen so long ago, and said then that so much waits."""
        made = self.school.enrol(Grant("student", self.ada), name=name)
        now_ms = self.school.clock.now_ms()
        with self.school.database.transaction() as cursor:
            if pending is not None:
                reports.note(cursor, self.school.id, made.id, DeviceReport(pending, 60_000, "0.9", 1), now_ms)
                hours.count(cursor, self.school.id, 120, now_ms)
            columns = {"last_seen_ms": None if seen_ago_ms is None else now_ms - seen_ago_ms, **columns}
            for column, value in columns.items():
                cursor.execute(f"UPDATE devices SET {column} = %s WHERE id = %s", (value, made.id))
        return made

    @property
    def ada(self) -> Any:
        return self.school.value("SELECT id FROM users WHERE username = 'ada'")


@pytest.fixture
def office(flask_cloud: Flask, cloud_school: SchoolBuilder) -> Iterator[Office]:
    with serving(flask_cloud) as url:
        yield Office(Staffroom.of(flask_cloud, cloud_school), url)


def sign_in(visit: Visit, username: str = "root", password: str = PASSWORD) -> None:
    visit.page.get_by_label("User name").fill(username)
    visit.page.get_by_label("Password").fill(password)
    visit.page.get_by_role("button", name="Sign in").click()


def test_an_administrator_signs_in_by_keyboard_lands_on_the_fleet_and_signs_out(browser: Any, office: Office) -> None:
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/")
        assert visit.page.url == f"{office.url}/pages/sign-in?to=%2F"
        assert visit.grave_findings() == []
        visit.page.get_by_label("User name").focus()
        visit.page.keyboard.type("root")
        visit.page.keyboard.press("Tab")
        visit.page.keyboard.type(PASSWORD)
        visit.page.keyboard.press("Enter")
        visit.wait_for("No device is enrolled.")
        assert visit.page.url == f"{office.url}/pages/fleet"
        assert visit.page.locator(".figures, .chart").count() == 0, "nothing but what is to be done"
        visit.page.get_by_role("button", name="Sign out").click()
        visit.wait_for("For teachers and administrators.")
        visit.open("/pages/fleet")
        visit.wait_for("For teachers and administrators.")


def test_whoever_was_sent_to_sign_in_comes_back_to_the_page_that_was_asked_for(browser: Any, office: Office) -> None:
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/fleet/codes")
        sign_in(visit)
        visit.wait_for("There is no class yet.")
        assert visit.page.url == f"{office.url}/pages/fleet/codes"


def test_a_wrong_password_is_said_and_can_be_corrected(browser: Any, office: Office) -> None:
    with visiting(browser, office.url, cookies=True) as visit:
        visit.expected.append("403")
        visit.open("/pages/sign-in")
        sign_in(visit, password="not this one")
        visit.page.get_by_role("alert").wait_for()
        assert visit.page.get_by_label("User name").input_value() == "root"
        assert visit.grave_findings() == []
        sign_in(visit)
        visit.wait_for("No device is enrolled.")


def test_a_silent_device_is_shown_as_silent_and_nothing_on_the_page_calls_it_well(browser: Any, office: Office) -> None:
    office.device("Room 5", seen_ago_ms=3 * DAY_MS, pending=0)
    office.device("Room 6", seen_ago_ms=5_000, pending=0)
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/fleet")
        sign_in(visit)
        visit.wait_for("1 of 2 devices is silent.")
        row = visit.page.get_by_role("row", name="Room 5")
        assert "silent for 3 days" in row.inner_text()
        assert "up to date" not in row.inner_text()
        assert "0 then" in row.inner_text()  # what waits there now, nobody can tell
        assert "up to date" in visit.page.get_by_role("row", name="Room 6").inner_text()


def test_the_fleet_is_read_on_a_phone_in_the_dark_and_by_a_screen_reader(browser: Any, office: Office) -> None:
    office.device("Room 5", seen_ago_ms=20 * DAY_MS, pending=7)
    office.device("Room 6", pending=3)
    office.device("Room 7", seen_ago_ms=None)
    office.device("Room 8", clock_offset_ms=-2 * HOUR_MS, pending=0)
    for options in ({"viewport": PHONE}, {"color_scheme": "dark"}, {}):
        with visiting(browser, office.url, cookies=True, **options) as visit:
            visit.open("/pages/fleet")
            sign_in(visit)
            visit.wait_for("One device needs a look.")
            assert visit.grave_findings() == []
            for size in (*BETWEEN, visit.page.viewport_size):
                visit.resize(size)
                assert visit.overflow_px() <= 0, size
            assert visit.page.get_by_role("img", name=re.compile("360 changes")).count() == 1
            visit.page.get_by_role("link", name="Room 8").click()
            visit.wait_for("Its clock is 2 hours ahead.")
            assert "wrong clock" in visit.text()
            assert visit.overflow_px() <= 0
            assert visit.grave_findings() == []


def test_devices_are_found_by_name_and_state_and_put_in_order(browser: Any, office: Office) -> None:
    for number in range(3):
        office.device(f"Room {number}", pending=number)
    office.device("Library", seen_ago_ms=2 * DAY_MS)
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/fleet")
        sign_in(visit)
        visit.page.get_by_role("searchbox", name="Name").fill("room")
        visit.page.get_by_label("Order").select_option("most waiting")
        visit.page.get_by_role("button", name="Show").click()
        visit.wait_for("Devices 3")
        assert visit.page.get_by_role("rowheader").all_inner_texts() == ["Room 2", "Room 1", "Room 0"]
        visit.page.get_by_role("searchbox", name="Name").fill("")
        visit.page.get_by_label("State").select_option("silent")
        visit.page.get_by_role("button", name="Show").click()
        visit.wait_for("Devices 1")
        assert visit.page.url.endswith("#devices")  # what was asked for is in sight, on a phone too
        assert visit.page.get_by_role("rowheader").all_inner_texts() == ["Library"]


def test_a_lost_device_is_revoked_only_when_that_was_confirmed(browser: Any, office: Office) -> None:
    lost = office.device("Room 5", pending=2)
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open(f"/pages/fleet/devices/{lost.id}")
        sign_in(visit)
        visit.page.get_by_label("Wipe: it forgets everything, once").check()
        visit.page.get_by_role("button", name="End its access").click()
        assert office.school.value("SELECT revoked_at_ms FROM devices") is None
        visit.page.get_by_label("Yes, end the access of Room 5").check()
        visit.page.get_by_role("button", name="End its access").click()
        visit.wait_for("revoked, not wiped yet")
    assert office.school.value("SELECT revocation FROM devices") == "wipe"
    actor = office.school.value("SELECT actor FROM audit_log WHERE action = 'device.revoked'")
    assert actor == f"user:{office.school.value('SELECT id FROM users WHERE username = %s', 'root')}"


def test_an_enrolment_code_made_on_the_page_enrols_as_many_devices_as_it_says(browser: Any, office: Office) -> None:
    add_class(office.school)
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/fleet/codes")
        sign_in(visit)
        visit.page.get_by_label("7a").check()
        visit.page.get_by_label("Devices that may use it").fill("2")
        visit.page.get_by_role("button", name="Make the code").click()
        visit.page.get_by_role("img", name="The command as a QR code").wait_for()
        code = visit.page.locator(".code").first.inner_text()
        assert f"carrel enrol {office.url} {code}" in visit.text()
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".code").first.is_visible()
        assert not visit.page.get_by_role("button", name="Make the code").is_visible()
        visit.open("/pages/fleet/codes")
        assert re.search("7a.*2", visit.page.get_by_role("row", name="7a").inner_text().replace("\n", " "))
        assert code not in visit.text()  # it was shown once
    with office.school.database.transaction() as cursor:
        for number in range(2):
            made = redeem(cursor, office.school.ids, code, f"device {number}", "1", office.school.clock.now_ms())
    granted = office.school.value("SELECT kind FROM device_grants WHERE device_id = %s", made.id)
    assert granted == "class"


def test_a_code_may_be_for_single_students_and_what_is_wrong_with_the_form_is_said_above_what_was_typed(
    browser: Any, office: Office
) -> None:
    for name in ("10b", "7a", "10a"):
        add_class(office.school, name)
    mila = office.school.add_user("mila")
    with visiting(browser, office.url, cookies=True, viewport=PHONE) as visit:
        visit.expected.append("422")
        visit.open("/pages/fleet/codes")
        sign_in(visit)
        visit.page.get_by_role("button", name="Make the code").click()
        visit.wait_for("Choose at least one class, or name a student.")
        assert [text.strip() for text in visit.page.locator("fieldset label").all_inner_texts()] == ["7a", "10a", "10b"]
        assert visit.page.get_by_role("alert").count() == 1
        visit.page.get_by_label("Single students").fill("Ada, mila\nnobody root")
        visit.page.get_by_label("Hours that it lasts").fill("8")
        visit.page.get_by_role("button", name="Make the code").click()
        visit.wait_for("There is no student of the user name nobody, root.")
        assert visit.page.get_by_label("Hours that it lasts").input_value() == "8"
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0
        visit.page.get_by_label("Single students").fill("Ada mila")
        visit.page.get_by_label("7a").check()
        visit.page.get_by_role("button", name="Make the code").click()
        visit.page.get_by_role("img", name="The command as a QR code").wait_for()
        assert "7a, 2 students" in visit.text()
        assert visit.page.get_by_label("Single students").input_value() == ""
        code = visit.page.locator(".code").first.inner_text()
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0
    with office.school.database.transaction() as cursor:
        made = redeem(cursor, office.school.ids, code, "device", "1", office.school.clock.now_ms())
        cursor.execute("SELECT kind, subject_id FROM device_grants WHERE device_id = %s", (made.id,))
        granted = cursor.fetchall()
    assert {(kind, id_) for kind, id_ in granted if kind == "student"} == {("student", office.ada), ("student", mila.id)}
    assert sorted(kind for kind, _ in granted) == ["class", "student", "student"]


def test_a_school_of_a_thousand_devices_is_paged_through_and_ordered_by_the_heads_of_the_columns(browser: Any, office: Office) -> None:
    model = office.device("Model", pending=0)
    with office.school.database.transaction() as cursor:
        cursor.execute("SELECT string_agg(column_name, ', ') FROM information_schema.columns WHERE table_name = 'devices' AND column_name NOT IN"
                       " ('id', 'name', 'token_hash', 'pending_ops')")  # fmt: skip
        [(others,)] = cursor.fetchall()
        cursor.execute(
            f"INSERT INTO devices (id, name, token_hash, pending_ops, {others}) SELECT gen_random_uuid(), 'Room ' || to_char(n, 'FM000'),"
            f" decode(md5(n::text) || md5((-n)::text), 'hex'), n, {others} FROM devices, generate_series(1, 999) n WHERE id = %s",
            (model.id,),
        )
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/fleet")
        sign_in(visit)
        visit.wait_for("1 to 50 of 1,000")
        visit.page.get_by_role("columnheader", name="Waiting").get_by_role("link").click()
        visit.wait_for("1 to 50 of 1,000")
        assert visit.page.get_by_role("rowheader").first.inner_text() == "Room 999"
        assert visit.page.get_by_label("Order").input_value() == "backlog"
        for first in range(51, 1_000, 50):
            visit.page.get_by_role("link", name="The next ones").press("Enter")
            visit.wait_for(f"{first} to {first + 49:,} of 1,000")
        assert visit.page.get_by_role("rowheader").last.inner_text() == "Model"
        assert visit.page.get_by_role("link", name="The next ones").count() == 0
        assert visit.grave_findings() == []
        visit.open("/pages/fleet?offset=5000")
        visit.wait_for("1 to 50 of 1,000")


def test_somebody_chooses_another_password_and_every_other_session_ends(browser: Any, office: Office) -> None:
    elsewhere = office.room.token("root")
    with visiting(browser, office.url, cookies=True) as visit:
        visit.open("/pages/password")
        sign_in(visit)
        visit.page.get_by_label("Present password").fill(PASSWORD)
        visit.page.get_by_label("New password, at least 8 characters").fill("another horse")
        visit.page.get_by_label("The new one again").fill("another horse")
        visit.page.get_by_role("button", name="Change the password").click()
        visit.wait_for("The password was changed.")
        visit.open("/pages/fleet")
        visit.wait_for("No device is enrolled.")
    assert office.room.app.test_client().delete("/v1/sessions", headers=elsewhere).status_code == 401
    assert office.room.post("root", "another horse").status_code == 201


def test_the_summary_keeps_itself_current(browser: Any, office: Office) -> None:
    lost = office.device("Room 5", pending=0)
    with visiting(browser, office.url, cookies=True) as visit:
        visit.own_clock()
        visit.open("/pages/fleet")
        sign_in(visit)
        visit.wait_for("The device is up to date.")
        with office.school.database.transaction() as cursor:
            enrolled.revoke(cursor, office.school.ids, office.school.id, lost.id, office.school.clock.now_ms())
        visit.pass_time(31_000)
        visit.is_announced("No device is enrolled.")


def add_class(school: SchoolBuilder, name: str = "7a") -> None:
    with school.database.transaction() as cursor:
        cursor.execute("INSERT INTO classes (school_id, id, name, feed_no) VALUES (%s, %s, %s, 1)", (school.id, school.ids.new(), name))


def test_a_code_is_ended_by_its_button_and_a_device_that_was_enrolled_again_leads_to_what_it_has_become(
    browser: Any, office: Office
) -> None:
    add_class(office.school)
    before, after = office.device("Room 5", seen_ago_ms=DAY_MS), office.device("Room 5 again", pending=0)
    with office.school.database.transaction() as cursor:
        replace(cursor, office.school.ids, office.school.id, before.token, after.id, office.school.clock.now_ms())
    with visiting(browser, office.url, cookies=True, viewport=PHONE) as visit:
        visit.open("/pages/fleet/codes")
        sign_in(visit)
        visit.page.get_by_label("7a").check()
        visit.page.get_by_role("button", name="Make the code").click()
        hint = visit.page.locator(".code").first.inner_text()[:2]
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0
        visit.page.get_by_role("button", name=f"End the code for 7a that begins with {hint}").press("Enter")
        visit.wait_for("None.")
        assert office.school.value("SELECT sum(uses_left) FROM enrolment_codes") == 0
        visit.open("/pages/fleet?state=replaced")
        assert visit.page.get_by_role("rowheader").all_inner_texts() == ["Room 5"]
        visit.page.get_by_role("link", name="Room 5").click()
        visit.wait_for("enrolled again")
        assert visit.grave_findings() == []
        visit.page.get_by_role("link", name="this device").click()
        visit.wait_for("Room 5 again")
