"""One search finds both sides of a sync round: its id stands in the device's log and in the school's."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from flask import Flask

from cloud_api.serving import logs as cloud_logs
from daemon.process.logs import JsonFormat
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice


@pytest.fixture
def asked(flask_cloud: Flask) -> list[str]:
    """The ids of the requests that the school has answered, in order."""
    ids: list[str] = []
    inner = flask_cloud.wsgi_app

    def recording(environ: dict[str, Any], start_response: Any) -> Any:
        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            ids.extend(value for name, value in headers if name == "X-Request-Id")
            return start_response(status, headers, *rest)

        return inner(environ, started)

    flask_cloud.wsgi_app = recording  # type: ignore[method-assign]  # how Flask wants it done
    return ids


def test_every_request_of_a_round_has_the_rounds_id_and_a_number_of_its_own(asked: list[str], laptop: SyncedDevice) -> None:
    asked.clear()
    laptop.sync()
    laptop.sync()
    assert len({id_.rpartition(".")[0] for id_ in asked}) == 2, "another round has another id"
    numbers = [int(id_.rpartition(".")[2]) for id_ in asked]
    assert numbers == sorted(set(numbers))


def test_what_is_logged_in_a_round_carries_the_same_id(asked: list[str], laptop: SyncedDevice, fleet: Fleet, ada: str) -> None:
    written, logger = io.StringIO(), logging.getLogger("daemon.sync.round")
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormat())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    laptop.records.record_attempts(Id(ada), fleet.attempts(1))
    laptop.gateway.lose_answers = 1
    asked.clear()
    try:
        assert laptop.sync().outcome != "done"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    [line] = [json.loads(line) for line in written.getvalue().splitlines()]
    assert line["message"].startswith("sync failed")
    assert [line["round"]] == [id_.rpartition(".")[0] for id_ in asked]


def test_the_servers_log_has_the_rounds_id_with_what_became_of_the_request(
    asked: list[str], laptop: SyncedDevice, fleet: Fleet, ada: str, caplog: pytest.LogCaptureFixture
) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(1))
    asked.clear()
    with caplog.at_level(logging.INFO, logger="carrel.cloud.requests"):
        laptop.sync()
    told = [cloud_logs.Format(as_json=True).format(record) for record in caplog.records if record.name == "carrel.cloud.requests"]
    pushes = [line for line in map(json.loads, told) if line["endpoint"] == "sync.push"]
    assert [(line["status"], line["request"] in asked) for line in pushes] == [(200, True)]
