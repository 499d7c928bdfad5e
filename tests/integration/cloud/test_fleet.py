"""What devices say of themselves, what is counted hour by hour, and the states that follow; over real pushes and pulls."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from cloud_api.app import create_app
from cloud_api.cli import main
from cloud_api.config import CloudConfig
from cloud_api.devices.enrolment import EnrolledDevice, Grant
from cloud_api.fleet import hours, overview, reports
from cloud_api.fleet.hours import COUNT_EVERY_MS, HOUR_MS, KEPT_MS, Hour
from cloud_api.fleet.overview import PAGE_DEVICES, DeviceRow, State
from domain.wire import DeviceReport
from tests.security.cloud.staff import PASSWORD, Staffroom
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock

DAY_MS = 24 * HOUR_MS
NOW_MS = 1_795_000_000_000
WATCH_ENDS_MAX_S = 30


def enrolled(school: SchoolBuilder, name: str = "Room 5", **columns: Any) -> EnrolledDevice:
    """A device, with columns of its row as given."""
    made = school.enrol(Grant("student", school.ids.new()), name=name)
    with school.database.transaction() as cursor:
        for column, value in columns.items():
            cursor.execute(f"UPDATE devices SET {column} = %s WHERE id = %s", (value, made.id))
    return made


def said(school: SchoolBuilder, device: EnrolledDevice, report: DeviceReport, now_ms: int = NOW_MS) -> DeviceRow:
    """The device as it is shown after it said that."""
    with school.database.transaction() as cursor:
        reports.note(cursor, school.id, device.id, report, now_ms)
        return overview.device(cursor, school.id, device.id, now_ms)


def test_a_device_is_shown_with_what_it_said_last(cloud_school: SchoolBuilder) -> None:
    device = enrolled(cloud_school)
    said(cloud_school, device, DeviceReport(900, DAY_MS, "1.0", 1))
    shown = said(cloud_school, device, DeviceReport(12, 5_000, "1.1", 2))
    assert (shown.pending, shown.oldest_pending_at_ms, shown.app_version, shown.schema_version) == (12, NOW_MS - 5_000, "1.1", 2)


@pytest.mark.parametrize(
    "report",
    [
        DeviceReport(-5, -1, "", -1),
        DeviceReport(2**62, 2**62, "x" * 5_000, 2**40),
        DeviceReport(1, 0, "1.0\x00\n\u202e", 0),
    ],
    ids=["negative", "enormous", "not printable"],
)
def test_a_word_that_cannot_be_is_cut_down_and_keeps_no_device_from_syncing(cloud_school: SchoolBuilder, report: DeviceReport) -> None:
    shown = said(cloud_school, enrolled(cloud_school), report)
    assert shown.pending is not None
    assert 0 <= shown.pending < 2**31
    assert shown.app_version.isprintable()
    assert len(shown.app_version) <= 40


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ({"last_seen_ms": None, "pending_ops": 0}, State.NEVER),
        ({"last_seen_ms": NOW_MS - DAY_MS - 1, "pending_ops": 0}, State.SILENT),
        ({"last_seen_ms": NOW_MS - DAY_MS - 1, "first_sync_until_ms": NOW_MS + 1}, State.SILENT),
        ({"last_seen_ms": NOW_MS - DAY_MS + 1, "pending_ops": 0}, State.CURRENT),
        ({"last_seen_ms": NOW_MS, "pending_ops": 3}, State.WAITING),
        ({"last_seen_ms": NOW_MS, "first_sync_until_ms": NOW_MS + 1}, State.FETCHING),
        ({"last_seen_ms": NOW_MS, "clock_offset_ms": -HOUR_MS}, State.TROUBLE),
        ({"last_seen_ms": NOW_MS, "pending_ops": 3, "oldest_pending_at_ms": NOW_MS - 2 * DAY_MS}, State.TROUBLE),
        ({"last_seen_ms": NOW_MS, "revoked_at_ms": NOW_MS, "clock_offset_ms": HOUR_MS}, State.REVOKED),
    ],
)
def test_the_state_of_a_device_is_the_worst_that_is_true(cloud_school: SchoolBuilder, columns: dict[str, Any], state: State) -> None:
    device = enrolled(cloud_school, **columns)
    with cloud_school.database.transaction(snapshot=True, school=cloud_school.id) as cursor:
        assert overview.device(cursor, cloud_school.id, device.id, NOW_MS).state is state
        assert {s for s, count in overview.totals(cursor, cloud_school.id, NOW_MS).states.items() if count} == {state}


def test_what_came_is_counted_by_the_hour_and_the_backlog_anew_now_and_then(cloud_school: SchoolBuilder) -> None:
    device = enrolled(cloud_school)
    began_ms = NOW_MS - NOW_MS % HOUR_MS

    def count(operations: int, pending: int, now_ms: int) -> None:
        with cloud_school.database.transaction() as cursor:
            reports.note(cursor, cloud_school.id, device.id, DeviceReport(pending), now_ms)
            hours.count(cursor, cloud_school.id, operations, now_ms)

    count(10, 90, began_ms)
    count(30, 60, began_ms + 1_000)
    count(5, 55, began_ms + COUNT_EVERY_MS + 1)
    count(7, 0, began_ms + 2 * HOUR_MS)
    with cloud_school.database.transaction(read_only=True) as cursor:
        found = hours.latest(cursor, cloud_school.id, 3, began_ms + 2 * HOUR_MS + 5)
    assert found == [Hour(began_ms, 45, 55), Hour(began_ms + HOUR_MS, 0, None), Hour(began_ms + 2 * HOUR_MS, 7, 0)]
    with cloud_school.database.transaction() as cursor:
        assert hours.forget(cursor, cloud_school.id, began_ms + HOUR_MS + KEPT_MS, 100) == 1


def test_a_page_of_many_devices_takes_as_many_statements_as_one_of_none(cloud_school: SchoolBuilder, flask_cloud: Any) -> None:
    room = Staffroom.of(flask_cloud, cloud_school)
    client, _ = room.browser("root")
    few = statements(cloud_school, lambda: client.get("/pages/fleet"))
    with cloud_school.database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO devices (school_id, id, name, token_hash, enrolled_at_ms, last_seen_ms, pending_ops)"
            " SELECT %s, gen_random_uuid(), 'Room ' || n, decode(md5(n::text), 'hex'), n, n, n FROM generate_series(1, 1000) n",
            (cloud_school.id,),
        )
    shown: list[str] = []
    many = statements(cloud_school, lambda: shown.append(client.get("/pages/fleet").get_data(as_text=True)))
    assert many == few
    assert shown[0].count("/pages/fleet/devices/") == PAGE_DEVICES
    following = client.get("/pages/fleet?sort=name&offset=50").get_data(as_text=True)
    assert not set(re.findall("/pages/fleet/devices/[0-9a-f]+", following)) & set(
        re.findall("/pages/fleet/devices/[0-9a-f]+", client.get("/pages/fleet?sort=name").get_data(as_text=True))
    )


def statements(school: SchoolBuilder, work: Any) -> int:
    """How many statements `work` has PostgreSQL run, by the sessions of this database: counted where each passes, at the cursor."""
    from psycopg2.extensions import cursor as plain

    counted = []

    class Counting(plain):
        def execute(self, query: Any, vars: Any = None) -> None:
            counted.append(query)
            super().execute(query, vars)

    pool = school.database._pool
    before = pool.connect_params.get("cursor_factory")
    pool.close_all()
    pool.connect_params["cursor_factory"] = Counting
    try:
        work()
    finally:
        pool.close_all()
        pool.connect_params.pop("cursor_factory")
        if before is not None:
            pool.connect_params["cursor_factory"] = before
    assert counted
    return len(counted)


def test_status_says_what_the_page_says_and_json_says_it_to_programs(cloud_school: SchoolBuilder, cloud_database: str) -> None:
    now_ms = cloud_school.clock.now_ms()
    enrolled(cloud_school, "Room 5", last_seen_ms=now_ms - 3 * DAY_MS, pending_ops=0)
    enrolled(cloud_school, "Room 6", last_seen_ms=now_ms, pending_ops=4)
    environ = {"DATABASE_URL": cloud_database}
    text = CliRunner().invoke(main, ["status"], env=environ).stdout
    assert "1 of 2 devices is silent." in text
    assert "waiting on them: 4 changes" in text
    told = json.loads(CliRunner().invoke(main, ["status", "--json"], env=environ).stdout)
    fleet = told["schools"][0]["fleet"]
    assert (fleet["devices"], fleet["states"]["silent"], fleet["pending"]) == (2, 1, 4)


PAGES = ("/", "/pages/fleet", "/pages/fleet/summary", "/pages/fleet/codes", "/pages/fleet/devices/{device}", "/pages/password")
FORMS = ("/pages/sign-out", "/pages/password", "/pages/fleet/codes", "/pages/fleet/devices/{device}/revoke")


def test_pages_are_for_whom_they_are_and_forms_of_other_sites_change_nothing(flask_cloud: Any, cloud_school: SchoolBuilder) -> None:
    room = Staffroom.of(flask_cloud, cloud_school)
    elsewhere = Staffroom.of(flask_cloud, SchoolBuilder.build(cloud_school.database))
    device = enrolled(cloud_school)
    admin, headers = room.browser("root")
    teacher, _ = room.browser("grace")
    stranger, their_headers = elsewhere.browser("root")
    nobody: FlaskClient = flask_cloud.test_client()

    def statuses(client: FlaskClient) -> list[int]:
        return [client.get(page.format(device=device.id)).status_code for page in PAGES]

    assert statuses(nobody) == [303, 303, 200, 303, 303, 303]
    assert "You were signed out." in nobody.get("/pages/fleet/summary").get_data(as_text=True)
    assert statuses(teacher) == [303, 403, 403, 403, 403, 200]
    assert statuses(admin) == [303, 200, 200, 200, 200, 200]
    assert statuses(stranger) == [303, 200, 200, 200, 404, 200]
    orders = {"order": "wipe", "confirmed": "yes", "before": PASSWORD, "after": "another horse", "again": "another horse"}
    for form in FORMS:
        address = form.format(device=device.id)
        assert admin.post(address, data=orders).status_code == 403  # without the token of a page
        assert admin.post(address, data=orders, headers=headers | {"Sec-Fetch-Site": "cross-site"}).status_code == 403
    revoke = f"/pages/fleet/devices/{device.id}/revoke"
    assert stranger.post(revoke, data=orders, headers=their_headers).status_code == 404
    assert cloud_school.value("SELECT revoked_at_ms FROM devices WHERE id = %s", device.id) is None
    assert admin.post(revoke, data={"order": "melt", "confirmed": "yes"}, headers=headers).status_code == 422
    assert admin.post(revoke, data=orders, headers=headers).status_code == 303
    assert cloud_school.value("SELECT revocation FROM devices WHERE id = %s", device.id) == "wipe"


@pytest.mark.parametrize("wanted", ["//evil.example/", "https://evil.example/", "/pages/\\evil", "/pages//evil.example\r\nX: y", ""])
def test_signing_in_sends_nobody_to_another_site(flask_cloud: Any, cloud_school: SchoolBuilder, wanted: str) -> None:
    Staffroom.of(flask_cloud, cloud_school)
    sent = {"username": "root", "password": PASSWORD, "to": wanted}
    answer = flask_cloud.test_client().post("/pages/sign-in", data=sent)
    assert answer.headers["Location"] in ("/pages/fleet", "http://localhost/pages/fleet")
    foreign = flask_cloud.test_client().post("/pages/sign-in", data=sent, headers={"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, foreign.headers.get("Set-Cookie")) == (403, None)


def test_a_page_that_was_left_open_does_not_keep_its_session_alive(cloud_school: SchoolBuilder) -> None:
    clock = ManualClock(NOW_MS)
    app = create_app(CloudConfig(), cloud_school.database, clock)
    client, _ = Staffroom.of(app, cloud_school).browser("root")
    idle_ms = CloudConfig().sign_in.idle_min * 60_000
    for _ in range(4):
        clock.advance(idle_ms // 3)
        shown = client.get("/pages/fleet/summary").get_data(as_text=True)
    assert "You were signed out." in shown
    assert client.get("/pages/fleet").status_code == 303


def test_a_watch_says_anew_what_has_changed_and_ends_with_ctrl_c(cloud_school: SchoolBuilder, cloud_database: str) -> None:
    command = [sys.executable, "-m", "cloud_api.cli", "status", "--watch", "--every", "1"]
    environ = os.environ | {"DATABASE_URL": cloud_database}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("No device is enrolled." in line for line in iter(process.stdout.readline, ""))
            enrolled(cloud_school, "Room 5", last_seen_ms=cloud_school.clock.now_ms(), pending_ops=0)
            assert any("The device is up to date." in line for line in iter(process.stdout.readline, ""))
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(WATCH_ENDS_MAX_S) == 0


def test_an_administrator_ends_a_code_on_the_page_that_lists_it(flask_cloud: Any, cloud_school: SchoolBuilder) -> None:
    room = Staffroom.of(flask_cloud, cloud_school)
    admin, headers = room.browser("root")
    stranger, their_headers = Staffroom.of(flask_cloud, SchoolBuilder.build(cloud_school.database)).browser("root")
    made = admin.post("/pages/fleet/codes", data={"students": "ada", "uses": "5", "hours": "2"}, headers=headers).get_data(as_text=True)
    code = re.search(r'class="code"[^>]*>([^<]+)<', made)[1]  # type: ignore[index]
    id_ = cloud_school.value("SELECT id FROM enrolment_codes")
    listed = admin.get("/pages/fleet/codes").get_data(as_text=True)
    assert f"{code[:2]}…" in listed and "1 student" in listed and "by Root" in listed
    assert code not in listed
    end = f"/pages/fleet/codes/{id_}/end"
    assert admin.post(end).status_code == 403, "without the token of a page"
    assert stranger.post(end, headers=their_headers).status_code == 303
    assert cloud_school.value("SELECT uses_left FROM enrolment_codes") == 5
    for _ in range(2):
        assert admin.post(end, headers=headers).status_code == 303
    assert cloud_school.value("SELECT uses_left FROM enrolment_codes") == 0
    assert cloud_school.value("SELECT actor LIKE 'user:%%' FROM audit_log WHERE action = 'enrolment_code.ended'")
    assert end not in admin.get("/pages/fleet/codes").get_data(as_text=True)


def test_a_control_character_among_user_names_is_no_part_of_one(flask_cloud: Any, cloud_school: SchoolBuilder) -> None:
    admin, headers = Staffroom.of(flask_cloud, cloud_school).browser("root")
    form = {"students": "no\x00body", "uses": "5", "hours": "2"}
    refused = admin.post("/pages/fleet/codes", data=form, headers=headers)
    assert (refused.status_code, "There is no student of the user name no, body." in refused.get_data(as_text=True)) == (422, True)


def test_user_names_in_every_script_are_found_as_they_are_written(flask_cloud: Any, cloud_school: SchoolBuilder) -> None:
    """Python and PostgreSQL do not agree on what the small letters of these are."""
    admin, headers = Staffroom.of(flask_cloud, cloud_school).browser("root")
    for name in ("\u0130pek", "\u03a3\u039f\u03a6\u039f\u03a3"):
        cloud_school.add_user(name)
    form = {"students": "\u0130pek \u03a3\u039f\u03a6\u039f\u03a3 ADA ada", "uses": "5", "hours": "2"}
    made = admin.post("/pages/fleet/codes", data=form, headers=headers)
    assert (made.status_code, "3 students" in made.get_data(as_text=True)) == (200, True)
