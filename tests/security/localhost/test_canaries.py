"""What must stay private is sent through every route, whole and broken, while things inside fail: none of it is in the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.api.openapi import path_of
from daemon.api.routes import NOUNS
from daemon.learning.attempts import page_of
from daemon.process import logs
from tests.support.device import (
    ADA,
    APP_TOKEN,
    CONTROL_TOKEN,
    ApiClient,
    DeviceUnderTest,
    attempt,
    open_device,
)

PIN, WRONG_PIN, ANSWER, NAME = "canary-pin-7", "canary-wrong-8", "canary-answer-9", "Canary Ørsted"
ENDPOINTS = [endpoint for noun in NOUNS.values() for endpoint in noun]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[DeviceUnderTest]:
    with open_device(tmp_path) as opened:
        opened.execute("UPDATE users SET display_name = ?, username = 'canary-name' WHERE id = ?", NAME, ADA)
        yield opened


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """All that this process logs, at the most talkative level, as the daemon would write it."""
    written, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormat() if request.param == "json" else logs.TextFormat())
    level, before = root.level, root.handlers[:]
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(level)
    root.handlers[:] = before


def failing(*values: Any, **named: Any) -> None:
    """Fails as careless code does: with what it was given in its message."""
    raise RuntimeError(f"cannot take {values} {named} {ANSWER} {NAME}")


def everything(device: DeviceUnderTest, token: str) -> None:
    """Every route as one caller, with the canaries wherever something can be put: path, query, headers, body."""
    client = ApiClient(device.client, token)
    bodies: list[dict[str, Any]] = [
        {"json": attempt(answer=ANSWER)},
        {"json": {"username": "canary-name", "pin": PIN}},
        {"json": {"username": NAME, "pin": WRONG_PIN, ANSWER: ANSWER}},
        {"json": {"name": NAME, "origins": [ANSWER], "code": ANSWER, "cloud_url": f"http://127.0.0.1:9/{ANSWER}"}},
        {"data": f'{{"answer": "{ANSWER}"'.encode(), "content_type": "application/json"},
        {"data": ANSWER.encode(), "content_type": "text/plain"},
    ]
    for endpoint in ENDPOINTS:
        for options in bodies if endpoint.body is not None else [{}]:
            client.request(endpoint.method, path_of(endpoint).replace("<id>", ADA), **options)
        client.request(endpoint.method, path_of(endpoint).replace("<id>", ANSWER), query_string={"cursor": ANSWER, NAME: NAME})
    client.get("/me", headers={"Origin": f"http://{ANSWER}", "Host": ANSWER})
    client.get(f"/{ANSWER}")


def test_names_answers_pins_and_tokens_are_in_no_log_whatever_fails(
    device: DeviceUnderTest, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.controlling().post(f"/students/{ADA}/pin", json={"pin": PIN}).status_code == 204
    session = device.in_app().post("/sessions", json={"username": "canary-name", "pin": PIN}).get_json()["token"]
    added = device.api.access.apps.add("Fractions", ["http://localhost:3000"])[1]
    tokens = [session, APP_TOKEN, CONTROL_TOKEN, added, "canary-token-nobody-has"]
    for token in tokens:
        everything(device, token)
    session = (
        device.in_app().post("/sessions", json={"username": "canary-name", "pin": PIN}).get_json().get("token", device.signed_in().token)
    )
    assert ApiClient(device.client, session).post("/attempts", json=attempt(answer=ANSWER)).status_code == 201
    for broken in (
        "daemon.database.DeviceDatabase.write",
        "daemon.access.pins._keyed",
        "daemon.api.routes.sessions.parse_id",
        f"{page_of.__module__}.page_of",
    ):
        monkeypatch.setattr(broken, failing)
    monkeypatch.setattr("daemon.api.routes.attempts.page_of", failing)
    assert ApiClient(device.client, session).get("/attempts").status_code == 500
    for token in (session, *tokens):
        everything(device, token)
    written = log.getvalue()
    assert "a request failed" in written
    assert "RuntimeError" in written
    for secret in (ANSWER, NAME, "canary-name", "Ørsted", PIN, WRONG_PIN, session, *tokens):
        assert secret not in written
        assert secret.encode("unicode_escape").decode() not in written


def test_no_refusal_repeats_what_was_sent(device: DeviceUnderTest) -> None:
    for token in (device.signed_in().token, APP_TOKEN, CONTROL_TOKEN):
        client = ApiClient(device.client, token)
        for endpoint in ENDPOINTS:
            refused = client.request(
                endpoint.method, path_of(endpoint).replace("<id>", "canary-id"), json={"pin": [PIN], "answer": {"a": ANSWER}}
            )
            text = refused.get_data(as_text=True)
            assert PIN not in text
            assert ANSWER not in text
            assert "canary-id" not in text
