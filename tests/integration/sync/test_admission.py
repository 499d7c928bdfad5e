"""Many devices that fetch everything at once: a bounded number is let in, the others come when it is their turn; polls keep to a pace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_api.app import create_app
from cloud_api.config import CloudConfig, Server
from cloud_api.devices.enrolment import Grant
from cloud_api.sync.admission import LEASE_MS, TURN_AFTER_MIN_S
from domain.wire import PullRequest
from tests.support.cloud import SchoolBuilder, serving
from tests.support.fleet import Fleet, SyncedDevice, running_fleet


@pytest.fixture
def crowded(cloud_school: SchoolBuilder, tmp_path: Path) -> Iterator[Fleet]:
    """A server that lets one device fetch everything at a time, and wants one poll a second."""
    config = CloudConfig(server=Server(first_syncs_max=1, polls_per_s=1.0, poll_after_s=2.0))
    with serving(create_app(config, cloud_school.database)) as url, running_fleet(cloud_school, url, tmp_path) as fleet:
        yield fleet


def new_device(fleet: Fleet) -> SyncedDevice:
    """A device that wants everything, page by page."""
    device = fleet.device(Grant("student", fleet.school.add_user(f"s{random.getrandbits(40)}").id))
    device.rounds._puller._page_rows = 5
    return device


def break_off_after_a_page(device: SyncedDevice) -> None:
    device.rounds.stopping.set()
    device.sync()
    device.rounds.stopping.clear()


def test_the_second_device_waits_its_turn_and_gets_it_when_the_first_has_its_last_page(crowded: Fleet) -> None:
    first, second = new_device(crowded), new_device(crowded)
    break_off_after_a_page(first)
    refused = second.sync()
    assert refused.outcome == "busy"
    assert second.rounds.status().reason == "busy"
    assert second.value("SELECT count(*) FROM questions") == 0
    assert first.sync().outcome == "done"
    assert second.sync().outcome == "done"
    assert second.value("SELECT count(*) FROM questions") == 20
    assert crowded.server("SELECT count(*) FROM devices WHERE first_sync_until_ms IS NOT NULL") == [(0,)]


def test_a_place_that_nobody_uses_any_more_is_free_after_a_time(crowded: Fleet) -> None:
    first, second = new_device(crowded), new_device(crowded)
    break_off_after_a_page(first)
    assert second.sync().outcome == "busy"
    crowded.server("UPDATE devices SET first_sync_until_ms = first_sync_until_ms - %s", LEASE_MS)
    assert second.sync().outcome == "done"
    assert first.sync().outcome == "done"


def test_who_was_refused_comes_back_when_told_and_not_later_with_every_refusal(crowded: Fleet) -> None:
    first, second = new_device(crowded), new_device(crowded)
    break_off_after_a_page(first)
    waits_s = set()
    for _ in range(12):
        assert second.sync().outcome == "busy"
        waits_s.add(round(second.rounds.status().next_attempt_in_s or 0, 1))
    assert all(wait_s <= TURN_AFTER_MIN_S * 1.5 * 1.5 + 1 for wait_s in waits_s), "twelve failures would have led to minutes"
    assert len(waits_s) > 1, "chance keeps devices apart"


def test_answers_are_sent_while_the_first_fetch_waits(crowded: Fleet) -> None:
    first, second = new_device(crowded), new_device(crowded)
    assert second.sync().outcome == "done"
    student = second.value("SELECT substr(scope, 9) FROM cursors WHERE scope LIKE 'student:%'")
    second.database.write(lambda conn: second.identity.start_incarnation(conn, resend_all=True))
    second.records.record_attempts(student, crowded.attempts(3))
    break_off_after_a_page(first)
    assert second.sync().outcome == "busy"
    assert len(crowded.server_rows("question_attempts")) == 3


def test_a_device_that_has_everything_needs_no_place(crowded: Fleet) -> None:
    first, second = new_device(crowded), new_device(crowded)
    assert second.sync().outcome == "done"
    break_off_after_a_page(first)
    crowded.add_class("makes the head move")
    second.gateway.requests.clear()
    assert second.sync().outcome == "done"
    assert [r.rebaselining for r in second.gateway.requests if isinstance(r, PullRequest)] == [False]


def test_devices_are_asked_to_poll_less_often_the_more_of_them_there_are_also_when_there_is_nothing_new(crowded: Fleet) -> None:
    device = new_device(crowded)
    for _ in range(9):
        crowded.school.enrol(Grant("student", crowded.school.add_user(f"s{random.getrandbits(40)}").id))
    device.sync()
    device.sync()
    assert device.rounds.poll_after_s == 2.0
    crowded.server("UPDATE devices SET last_seen_ms = %s", crowded.school.clock.now_ms())
    another_process = create_app(CloudConfig(server=Server(polls_per_s=1.0, poll_after_s=2.0)), crowded.school.database)
    with serving(another_process) as url:
        crowded.url = url
        again = crowded.open(device.folder)
        again.change("UPDATE identity SET cloud_url = ?", url)
        again.identity.forget_cached()
        assert again.gateway.head(again.identity.token(), device.rounds._etag) is None
        assert again.gateway.poll_after_s == 10.0
        again.rounds._etag, again.rounds._gateway, again.rounds._gateway_url = device.rounds._etag, again.gateway, url
        again.sync()
        assert again.rounds.poll_after_s == 10.0
