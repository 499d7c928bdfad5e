"""What keeps an operation from being under way twice without a lease on it (docs/decisions/0017-no-leases.md)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cloud_api.devices.enrolment import Grant
from daemon.sync import round as sync_round
from daemon.sync.round import SyncRound
from domain.errors import Unavailable
from domain.wire import PushRequest
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import bundles_of, device_with_keys, opened_by, taken_at_school, written_by

STEPS_MAX_S = 30.0


def _with_answers(fleet: Fleet, count: int) -> SyncedDevice:
    student = fleet.school.add_user("ada").id
    device = device_with_keys(fleet, Grant("student", student))
    device.sync()
    device.records.record_attempts(student, fleet.attempts(count))
    return device


@contextmanager
def _push_held(device: SyncedDevice) -> Iterator[threading.Event]:
    """A round stands in the middle of its push as long as the block lasts; the event tells how many pushes there were but for the first."""
    arrived, go_on, again = threading.Event(), threading.Event(), threading.Event()

    def hold(request: PushRequest) -> PushRequest:
        (again if arrived.is_set() else arrived).set()
        go_on.wait(STEPS_MAX_S)
        return request

    device.gateway.before_push = hold
    with ThreadPoolExecutor(1) as pool:
        round_ = pool.submit(device.sync)
        arrived.wait(STEPS_MAX_S)
        try:
            yield again
        finally:
            go_on.set()
            round_.result(STEPS_MAX_S)


def test_a_second_round_sends_nothing_while_a_push_is_under_way(fleet: Fleet) -> None:
    device = _with_answers(fleet, 5)
    with _push_held(device) as again:
        assert device.rounds.run().outcome == "busy"
        assert not again.is_set()
    assert len([r for r in device.gateway.requests if isinstance(r, PushRequest)]) == 1
    assert fleet.school.value("SELECT count(*) FROM question_attempts") == 5


def test_a_round_asked_for_by_hand_waits_for_the_one_under_way_and_no_longer_than_its_limit(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = _with_answers(fleet, 5)
    monkeypatch.setattr(sync_round, "ROUND_WAIT_MAX_S", 0.05)
    with _push_held(device) as again:
        assert device.sync().outcome == "busy"
        assert not again.is_set()


def test_the_answer_of_a_bundle_is_not_taken_while_a_push_is_under_way(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    device = _with_answers(fleet, 5)
    answer = taken_at_school(fleet, written_by(device)).answer.data
    monkeypatch.setattr(sync_round, "ROUND_WAIT_MAX_S", 0.05)
    with _push_held(device), pytest.raises(Unavailable):
        bundles_of(device).take(opened_by(device, answer))
    assert bundles_of(device).take(opened_by(device, answer)).settled == 0


def test_EXACTLY_ONCE_what_is_written_into_a_bundle_while_it_is_pushed(fleet: Fleet) -> None:
    device = _with_answers(fleet, 5)
    with _push_held(device):
        carried = written_by(device)
    assert taken_at_school(fleet, carried).taken == 0
    assert fleet.school.value("SELECT count(*) FROM question_attempts") == 5
    assert fleet.school.value("SELECT count(*) FROM dead_letters") == 0


def test_what_was_under_way_when_a_daemon_died_is_sent_at_once_by_the_next(fleet: Fleet) -> None:
    device = _with_answers(fleet, 5)
    device.gateway.lose_answers = 1
    assert device.sync().outcome == "bad_answer"
    next_daemon = SyncRound(device.database, device.identity, device.clock, lambda url: device.gateway)
    assert next_daemon.run().pushed == 5
    assert next_daemon.status().state == "synced"
    assert fleet.school.value("SELECT count(*) FROM question_attempts") == 5
