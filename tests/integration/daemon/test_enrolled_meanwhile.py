"""A device that is enrolled anew while something else is under way: a sync round of what it was before, or another enrolment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from daemon.config import load_config
from daemon.control import find
from daemon.identity import revocation
from daemon.identity.device import TOKEN_FILE, Identity
from daemon.identity.keys import KEYS_FILE
from daemon.process.state_folder import locked
from daemon.service import Service
from domain.errors import CloudUnreachable
from domain.ids import IdSource, derived_id
from domain.wire import EnrolAnswer, HeadAnswer, Limits, TokenAnswer
from tests.support.device import GOOD_CODE, SCHOOL_ID, START_MS, DeviceUnderTest, OfflineGateway, seeded_database

WAIT_MAX_S = 10.0
URL = "http://127.0.0.1:9"
# A user id that is not root's.
NOBODY = 65534


def while_under_way(device: DeviceUnderTest, request: str, answer: Callable[[], Any], meanwhile: Callable[[], Any]) -> None:
    """A round whose request is answered only after something else was done."""
    asked, done = threading.Event(), threading.Event()

    def answered(*_: Any) -> Any:
        asked.set()
        assert done.wait(WAIT_MAX_S)
        return answer()

    setattr(device.gateway, request, answered)
    with ThreadPoolExecutor(1) as round_:
        ended = round_.submit(device.rounds.run, forced=True)
        assert asked.wait(WAIT_MAX_S)
        meanwhile()
        done.set()
        ended.result(WAIT_MAX_S)


def refused_with(code: str) -> Any:
    raise CloudUnreachable("unauthorised", "This device was revoked.", 403, None, code)


def enrolled_anew(device: DeviceUnderTest) -> Callable[[], Any]:
    return lambda: device.api.identity.enrol(URL, GOOD_CODE, "desk 2")


@pytest.mark.parametrize("order", revocation.ORDERS)
def test_an_order_to_the_device_that_it_was_before_neither_locks_nor_wipes_it(device: DeviceUnderTest, tmp_path: Path, order: str) -> None:
    while_under_way(device, "head", lambda: refused_with(order), enrolled_anew(device))
    assert revocation.noted(tmp_path) is None
    assert device.rounds.status().reason is None


def test_a_new_token_of_the_device_that_it_was_before_does_not_take_the_place_of_its_own(device: DeviceUnderTest, tmp_path: Path) -> None:
    device.gateway.head = lambda *_: (HeadAnswer(10, START_MS, "epoch", 30.0, True), "etag")  # type: ignore[method-assign]
    while_under_way(device, "renew_token", lambda: TokenAnswer("of-before"), enrolled_anew(device))
    assert "of-before" not in (tmp_path / TOKEN_FILE).read_text()


def test_of_two_enrolments_at_once_one_counts_whole(device: DeviceUnderTest, tmp_path: Path) -> None:
    identity = Identity(device.database, tmp_path, device.clock, IdSource(device.clock.now_ms))

    def adopt(name: str) -> None:
        identity.adopt(EnrolAnswer(derived_id("device", name), SCHOOL_ID, "Glasswork school", name, "epoch", Limits()), URL)

    for turn in range(5):
        with ThreadPoolExecutor(2) as both:
            list(both.map(adopt, (f"one-{turn}", f"other-{turn}")))
        assert identity.device_id() == derived_id("device", (tmp_path / TOKEN_FILE).read_text())


class AskedGateway(OfflineGateway):
    """Says when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def push(self, *arguments: Any) -> Any:
        self.asked.set()
        return super().push(*arguments)

    pull = verify = head = push


def test_the_first_round_of_a_device_enrolled_anew_does_not_wait_out_the_failures_before(tmp_path: Path) -> None:
    path, gateway = seeded_database(tmp_path), AskedGateway()
    environ = {"CARREL_DEVICE_STATE_DIR": str(tmp_path), "SQLITE_DATABASE_URL": f"sqlite:///{path}", "CARREL_DEVICE_API_PORT": "0"}
    (tmp_path / TOKEN_FILE).write_text("of-before")
    with locked(tmp_path):
        service = Service(load_config(None, environ), environ, gateway_for=lambda url: gateway)
        service.start()
        try:
            for _ in range(20):
                service._rounds.run(forced=True)
            gateway.asked.clear()
            control = find(tmp_path, WAIT_MAX_S)
            assert control is not None
            control.post("/v1/enrol", {"cloud_url": URL, "code": GOOD_CODE, "name": "desk 2"})
            assert gateway.asked.wait(WAIT_MAX_S)
        finally:
            service.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_enrols_is_the_device_of_the_account_that_the_folder_belongs_to(device: DeviceUnderTest, tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).unlink()
    os.chown(tmp_path, NOBODY, -1)
    enrolled_anew(device)()
    assert {name: (tmp_path / name).stat().st_uid for name in (TOKEN_FILE, KEYS_FILE)} == {TOKEN_FILE: NOBODY, KEYS_FILE: NOBODY}
