"""Tokens of devices: renewed without ever locking one out, ended by the next request."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient

from cloud_api.access import tries
from cloud_api.cli import main
from cloud_api.config import CloudConfig
from cloud_api.devices import enrolled
from cloud_api.devices.auth import Revocation, device_for
from cloud_api.devices.enrolment import EnrolledDevice, Grant
from domain.errors import Forbidden
from tests.support.cloud import SchoolBuilder
from tests.support.device import DAY_MS, ManualClock

TOKEN_MS = CloudConfig().devices.token_days * DAY_MS


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def device(school: SchoolBuilder) -> EnrolledDevice:
    return school.enrol(Grant("student", school.add_user("ada").id))


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def head(client: FlaskClient, token: str, **headers: str) -> Any:
    return client.get("/v1/sync/head", headers=bearing(token) | headers)


def renewed(client: FlaskClient, token: str) -> str:
    return str(client.post("/v1/devices/token", headers=bearing(token)).get_json()["token"])


def revoke(school: SchoolBuilder, device: EnrolledDevice, order: Revocation = Revocation.LOCK) -> None:
    with school.database.transaction() as cursor:
        enrolled.revoke(cursor, school.ids, school.id, device.id, school.clock.now_ms(), order=order)


def test_a_device_is_asked_for_a_new_token_when_its_own_is_old_also_when_nothing_else_is_new(
    client: FlaskClient, device: EnrolledDevice, clock: ManualClock
) -> None:
    first = head(client, device.token)
    assert not first.get_json()["token_due"]
    assert head(client, device.token, **{"If-None-Match": first.headers["ETag"]}).status_code == 304
    clock.advance(TOKEN_MS + 1)
    assert head(client, device.token, **{"If-None-Match": first.headers["ETag"]}).get_json()["token_due"]
    token = renewed(client, device.token)
    assert not head(client, token).get_json()["token_due"]
    clock.advance(TOKEN_MS + 1)
    assert head(client, token).get_json()["token_due"]
    clock._now_ms -= 3 * TOKEN_MS
    assert head(client, token).get_json()["token_due"], "the clock by which it was renewed had run ahead"


def test_the_old_token_is_valid_until_the_new_one_is_used_and_not_after(client: FlaskClient, device: EnrolledDevice) -> None:
    token = renewed(client, device.token)
    assert head(client, device.token).status_code == 200
    assert head(client, token).status_code == 200
    assert head(client, device.token).status_code == 401
    assert head(client, token).status_code == 200


def test_an_offer_that_never_arrived_locks_nobody_out_however_often(client: FlaskClient, device: EnrolledDevice) -> None:
    lost = [renewed(client, device.token) for _ in range(3)]
    token = renewed(client, device.token)
    assert [head(client, one).status_code for one in lost] == [401] * 3
    again = renewed(client, token)  # it has the offer on its disk, and is asked to renew before its first poll
    assert head(client, token).status_code == 200
    assert head(client, device.token).status_code == 401
    assert head(client, again).status_code == 200
    assert head(client, token).status_code == 401


def test_neither_token_is_stored_and_the_renewal_is_written_down(
    client: FlaskClient, device: EnrolledDevice, school: SchoolBuilder
) -> None:
    token = renewed(client, device.token)
    head(client, token)
    stored = school.value("SELECT string_agg(d::text, '') FROM devices d")
    assert token not in stored
    assert device.token not in stored
    assert school.value("SELECT subject FROM audit_log WHERE action = 'device.token_renewed'") == device.id


@pytest.mark.parametrize(
    ("order", "code"),
    [(Revocation.LOCK, "device_revoked"), (Revocation.WIPE, "device_wipe"), (Revocation.WIPE_DISCARDING_UNSENT, "device_wipe_all")],
)
def test_a_revocation_holds_for_the_very_next_request_with_either_token_and_says_what_to_do(
    client: FlaskClient, device: EnrolledDevice, school: SchoolBuilder, order: Revocation, code: str
) -> None:
    token = renewed(client, device.token)
    revoke(school, device, order)
    for one in (device.token, token):
        for refused in (head(client, one), client.post("/v1/devices/token", headers=bearing(one))):
            assert (refused.status_code, refused.get_json()["code"]) == (403, code)


def test_an_order_may_go_further_but_not_back(school: SchoolBuilder, device: EnrolledDevice) -> None:
    orders = []
    for order in (Revocation.WIPE, Revocation.LOCK, Revocation.WIPE_DISCARDING_UNSENT, Revocation.WIPE):
        revoke(school, device, order)
        orders.append(school.value("SELECT revocation FROM devices"))
    assert orders == ["wipe", "wipe", "wipe_discarding_unsent", "wipe_discarding_unsent"]


def test_what_a_revoked_device_says_of_itself_is_shown_once_and_taken_from_no_other(
    client: FlaskClient, device: EnrolledDevice, school: SchoolBuilder, clock: ManualClock
) -> None:
    def say(**said: Any) -> int:
        return client.post("/v1/devices/obeyed", json=said, headers=bearing(device.token)).status_code

    def standing() -> str:
        return CliRunner().invoke(main, ["device", "list", "--database-url", school.database.url, "--school", school.id]).output

    assert say(wiped=True) == 401  # it is not revoked
    revoke(school, device, Revocation.WIPE)
    assert "told to wipe, not heard from since" in standing()
    assert [say(wiped=False, unsent=7) for _ in range(3)] == [200] * 3
    assert "told to wipe, refused: 7 changes are nowhere else" in standing()
    clock.advance(DAY_MS)
    assert [say(wiped=True) for _ in range(3)] == [200] * 3
    assert "told to wipe, done" in standing()
    with school.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT action FROM audit_log WHERE subject = %s ORDER BY at_ms, id", (device.id,))
        actions = [action for (action,) in cursor.fetchall()]
    assert sorted(actions) == ["device.enrolled", "device.revoked", "device.wipe_refused", "device.wiped"]


def test_the_command_wipes_and_discards_only_when_it_is_told_to(school: SchoolBuilder, device: EnrolledDevice) -> None:
    command = ["device", "revoke", "--database-url", school.database.url, "--school", school.id, device.id]
    assert CliRunner().invoke(main, [*command, "--discard-unsent"]).exit_code == 2
    assert school.value("SELECT revocation FROM devices") is None
    for options, order in (([], "lock"), (["--wipe"], "wipe"), (["--wipe", "--discard-unsent"], "wipe_discarding_unsent")):
        assert CliRunner().invoke(main, [*command, *options]).exit_code == 0
        assert school.value("SELECT revocation FROM devices") == order


def test_wrong_codes_wait_ever_longer_and_keep_no_right_one_from_being_taken(
    client: FlaskClient, school: SchoolBuilder, clock: ManualClock
) -> None:
    """All laptops of a school stand behind one address, and so does the pupil who types nonsense."""
    ada, free = school.add_user("ada"), tries.by_enroller("").free
    code = school.code(Grant("student", ada.id), uses=2, expires_h=48)
    used = school.code(Grant("student", ada.id))

    def redeem(text: str, address: str = "10.0.0.1") -> Any:
        sent = {"code": text, "device_name": "laptop"}
        return client.post("/v1/devices/enrol", json=sent, environ_base={"REMOTE_ADDR": address})

    assert redeem(used).status_code == 201
    assert {redeem("XXXX-XXXX-XXXX").status_code for _ in range(free)} == {403}
    refused = [redeem(text) for text in ("XXXX-XXXX-XXXX", used)]
    assert [(answer.status_code, answer.get_json()["code"]) for answer in refused] == [(429, "rate_limited")] * 2
    assert len({answer.get_json()["detail"] for answer in refused}) == 1, "a used code is told from no other"
    assert redeem("XXXX-XXXX-XXXX", "10.0.0.9").status_code == 403
    assert redeem(code).status_code == 201
    assert redeem("XXXX-XXXX-XXXX").status_code == 429, "one right code does not free the way for wrong ones"
    clock.advance(tries.WAIT_MAX_MS)
    assert redeem("XXXX-XXXX-XXXX").status_code == 403
    assert int(redeem("XXXX-XXXX-XXXX").headers["Retry-After"]) > tries.FIRST_WAIT_MS // 1000
    assert redeem(code).status_code == 201


def test_a_device_that_was_revoked_while_it_asked_gets_no_new_token(school: SchoolBuilder, device: EnrolledDevice) -> None:
    revoke(school, device)
    with pytest.raises(Forbidden), school.database.narrowed().transaction() as cursor:
        device_for(cursor, device.token, lock=True)
