"""Every page of the server against everybody who may come: who gets in is a table, and a page without a place in it fails.

A page takes the token of a session from a cookie or from the Authorization header; here it is the header, as in tests/security/cloud/test_matrix.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from functools import reduce

import pytest

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.embedded import DatabaseServer
from cloud_api.plan_rules import DAY_OFF, NewRule, add_rules
from domain.ids import IdSource
from tests.security.cloud.test_matrix import ADAS, CALLERS, CANARY, OF_THE_SCHOOL, World, populated
from tests.support.device import ManualClock
from tests.support.postgres import temporary_database

STAFF = ("her teacher", "another teacher", "a teacher elsewhere", "an administrator", "an administrator elsewhere")
OF_ADA = ("her teacher", "an administrator")
ADMINISTRATORS = ("an administrator", "an administrator elsewhere")
# Page -> who sees it. Everybody else is sent to sign in, or told that the page is not for them, or is not there.
OPEN = ("/pages/assets/carrel.css", "/pages/assets/heat.js", "/pages/assets/icon.svg", "/pages/assets/live.js", "/metrics")
OF_STAFF = ("/pages/classes", "/pages/password")
OF_ADMINISTRATORS = ("/pages/fleet", "/pages/fleet/codes")
OF_HER_DEVICE = ("/pages/fleet/devices/<device_id>",)
OF_HER_CLASS = tuple(
    f"/pages/classes/<class_id>{page}"
    for page in ("", "/help", "/practice", "/questions", "/rules", "/students/<student_id>", "/students/<student_id>/rules")
)
# A day off that Ada has; the day after it is the one that the forms ask for.
RULE_DAY = date(2026, 3, 9)
# The fleet's figures alone, which the page fetches again and again: whoever is not signed in is told so in their place.
FETCHED = "/pages/fleet/summary"
FORMS = (
    "/pages/sign-in",
    "/pages/sign-out",
    "/pages/password",
    "/pages/fleet/codes",
    "/pages/fleet/codes/<code_id>/end",
    "/pages/fleet/devices/<device_id>/revoke",
    "/pages/fleet/devices/<device_id>/grants/<grant_id>/end",
    "/pages/classes/<class_id>/rules",
    "/pages/classes/<class_id>/rules/<rule_id>/remove",
    "/pages/classes/<class_id>/students/<student_id>/rules",
    "/pages/classes/<class_id>/students/<student_id>/rules/<rule_id>/remove",
)
SEEN_BY = (
    dict.fromkeys(OPEN, CALLERS)
    | {"/pages/sign-in": [caller for caller in CALLERS if caller not in STAFF]}  # who has signed in is sent on
    | dict.fromkeys(OF_STAFF, STAFF)
    | dict.fromkeys(OF_ADMINISTRATORS, ADMINISTRATORS)
    | dict.fromkeys(OF_HER_DEVICE, ("an administrator",))
    | dict.fromkeys(OF_HER_CLASS, OF_ADA)
)


@pytest.fixture(scope="module")
def world(postgres: DatabaseServer, cloud_template: str) -> Iterator[World]:
    with temporary_database(postgres, cloud_template) as url:
        database, clock = CloudDatabase(url), ManualClock()
        world = populated(create_app(CloudConfig(), database, clock), database, clock)
        database.retrying(lambda cursor: _rule_for(world, cursor, clock.now_ms()))
        yield world
        database.close()


def _rule_for(world: World, cursor: Cursor, now_ms: int) -> None:
    """Gives Ada a day off, which somebody may want to take away from her."""
    cursor.execute("SELECT school_id FROM users WHERE id = %s", (world.ada,))
    ((school_id,),) = cursor.fetchall()
    add_rules(cursor, IdSource(lambda: now_ms), school_id, [world.ada], [NewRule(DAY_OFF, None, RULE_DAY)], now_ms)


def address(world: World, rule: str) -> str:
    with world.database.transaction(read_only=True) as cursor:
        cursor.execute(
            "SELECT d.id, g.id FROM devices d JOIN device_grants g ON g.device_id = d.id WHERE g.subject_id = %s LIMIT 1", (world.ada,)
        )
        (device, grant) = cursor.fetchone()  # type: ignore[misc]
        cursor.execute("SELECT id FROM plan_rules WHERE student_id = %s", (world.ada,))
        ((plan_rule,),) = cursor.fetchall()
    known = {"<class_id>": world.class_id, "<student_id>": world.ada, "<device_id>": device, "<grant_id>": grant, "<rule_id>": plan_rule}
    return reduce(lambda path, name: path.replace(name, known[name]), known, rule)


def test_every_page_has_its_place_in_the_table_and_no_other_has(world: World) -> None:
    pages = [rule for rule in world.app.url_map.iter_rules() if rule.rule.startswith(("/pages", "/metrics"))]
    assert {rule.rule for rule in pages if "GET" in (rule.methods or ())} == {*SEEN_BY, FETCHED}
    assert {rule.rule for rule in pages if "POST" in (rule.methods or ())} == set(FORMS)
    assert {method for rule in pages for method in rule.methods or ()} <= {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.parametrize("rule", [*SEEN_BY, FETCHED])
def test_a_page_is_seen_by_whom_it_is_for_and_nobody_else(world: World, rule: str) -> None:
    before, seen = world.rows(), []
    for caller in CALLERS:
        answer = world.app.test_client().get(address(world, rule), headers=world.headers[caller])
        told = answer.get_data(as_text=True)
        assert answer.status_code in (200, 303, 403, 404), caller
        if answer.status_code == 200:
            seen.append(caller)
        if caller not in ("her teacher", "an administrator"):
            assert ADAS not in told, caller
        if caller not in OF_THE_SCHOOL or answer.status_code != 200:
            assert CANARY not in told, caller
    assert world.rows() == before
    if rule != FETCHED:
        assert seen == [caller for caller in CALLERS if caller in SEEN_BY[rule]]


def test_the_figures_that_a_page_fetches_are_those_of_the_school_of_whoever_asks(world: World) -> None:
    told = {caller: world.app.test_client().get(FETCHED, headers=world.headers[caller]).get_data(as_text=True) for caller in CALLERS}
    assert len({text for caller, text in told.items() if caller not in STAFF}) == 1, "one sentence for whoever is not signed in"
    assert told["her teacher"] != told["an administrator"] != told["nobody"]


@pytest.mark.parametrize("rule", FORMS)
def test_no_form_does_anything_for_whom_it_is_not(world: World, rule: str) -> None:
    orders = {
        "order": "wipe",
        "confirmed": "yes",
        "before": "x",
        "after": "another horse",
        "again": "another horse",
        "username": CANARY,
        "password": "x",
        "kind": DAY_OFF,
        "day": (RULE_DAY + timedelta(days=1)).isoformat(),
    }
    allowed = ADMINISTRATORS if rule.startswith("/pages/fleet") else STAFF if rule != "/pages/sign-in" else CALLERS
    if rule.startswith("/pages/classes"):
        allowed = OF_ADA
    for caller in CALLERS:
        if caller in allowed and not rule.startswith("/pages/fleet/devices/"):
            continue
        if caller == "an administrator":
            continue
        before = world.rows()
        answer = world.app.test_client().post(address(world, rule), data=orders, headers=world.headers[caller])
        assert answer.status_code in (303, 403, 404), caller
        assert "Set-Cookie" not in answer.headers
        assert world.rows() == before, caller
