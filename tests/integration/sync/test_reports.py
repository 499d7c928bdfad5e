"""What a device says of itself along with its requests: how much waits on it, which the school shows to whoever looks after it."""

from __future__ import annotations

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.fleet import hours
from domain.ids import Id
from domain.wire import BATCH_OPS_MAX, PushRequest
from tests.support.fleet import Fleet, SyncedDevice

_SHOWN = "SELECT pending_ops, schema_version, app_version <> 'test', oldest_pending_at_ms IS NULL FROM devices"


def test_each_batch_says_what_waits_behind_it_and_the_last_that_nothing_does(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(BATCH_OPS_MAX))
    laptop.records.record_attempts(ada, fleet.attempts(20))
    laptop.gateway.requests.clear()
    laptop.sync()
    pushes = [request for request in laptop.gateway.requests if isinstance(request, PushRequest)]
    told = [request.report.pending for request in pushes if request.report]
    assert told == [BATCH_OPS_MAX + 20 - sum(run.n for run in pushes[0].runs), *told[1:]]
    assert (told[0] > 0, told[-1]) == (True, 0)
    assert fleet.server(_SHOWN) == [(0, 1, True, True)]


def test_what_came_counts_once_into_its_hour_however_often_it_was_sent(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.gateway.lose_answers = 1
    assert laptop.sync().outcome != "done"
    assert laptop.sync().outcome == "done"
    with fleet.school.database.transaction(read_only=True) as cursor:
        shown = hours.latest(cursor, fleet.school.id, 2, fleet.school.clock.now_ms())
    assert sum(hour.operations for hour in shown) == 3


def test_an_older_device_that_says_nothing_of_itself_is_served_and_shown_as_unknown(
    fleet: Fleet, ada: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("push", "pull"):
        monkeypatch.setattr(f"daemon.sync.{module}.report_after", lambda *_: None)
    tablet = fleet.device(Grant("student", Id(ada)))
    assert tablet.sync().outcome == "done"
    tablet.records.record_attempts(Id(ada), fleet.attempts(1))
    assert tablet.sync().outcome == "done"
    assert fleet.server(_SHOWN) == [(None, None, False, True)]
