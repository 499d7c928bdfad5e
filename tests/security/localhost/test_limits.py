"""Requests that are too many, or that parsers would understand differently, are refused by the daemon before anything is done with them.

Sizes and times are in tests/integration/daemon/test_server.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import ADA, APP_TOKEN, QUESTIONS, ApiClient, DeviceUnderTest, Settings, open_device

ATTEMPT = f'{{"question_id": "{QUESTIONS[0]}", "correct": true, "active_ms": %s}}'


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    with open_device(tmp_path, Settings(requests_per_s=2.0)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (ATTEMPT % "7", 201),
        (ATTEMPT % '7, "correct": false', 422),
        (ATTEMPT % '7, "newer": {"a": 1, "a": 2}', 422),
        (ATTEMPT % "9223372036854775808", 422),
        (ATTEMPT % ("9" * 100_000), 400),
        (ATTEMPT % ('7, "newer": ' + "9" * 100_000), 400),
        (ATTEMPT % "NaN", 400),
        (ATTEMPT % "1e999", 400),
        (ATTEMPT % f'7, "newer": {"[" * 100_000}', 400),
        (ATTEMPT % f'7, "newer": {"[" * 100_000}{"]" * 100_000}', 400),
        (ATTEMPT % '7, "answer": "\\ud800"', 400),
    ],
    ids=["as it should be", "a name twice", "a name twice inside", "an integer too large", "one far too large", "one in a field unknown here",
         "NaN", "infinite", "depth", "closed depth", "half a character"],
)  # fmt: skip
def test_what_parsers_understand_differently_does_not_get_in(device: DeviceUnderTest, body: str, status: int) -> None:
    answer = device.signed_in().post("/attempts", data=body.encode(), content_type="application/json")
    assert answer.status_code == status
    with device.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM sync_operations").fetchone() == (status == 201,)


def test_an_app_that_asks_without_end_is_told_how_long_to_wait_and_others_are_not(device: DeviceUnderTest) -> None:
    app = ApiClient(device.client, APP_TOKEN)
    assert [app.get("/students").status_code for _ in range(21)] == [200] * 20 + [429]
    refused = app.get("/students")
    assert (refused.get_json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "1")
    assert device.signed_in(ADA).get("/me").status_code == 200
    device.clock.advance(500)
    assert app.get("/students").status_code == 200


def test_whoever_asks_without_end_does_not_make_the_daemon_look_ill(device: DeviceUnderTest) -> None:
    assert {device.client.get("/v1/students").status_code for _ in range(30)} == {401, 429}
    assert {device.client.get("/v1/health").status_code for _ in range(30)} == {200}
