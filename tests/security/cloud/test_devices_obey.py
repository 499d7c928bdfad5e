"""Devices and the school together: passwords of students, tokens that grow old, revocations that are obeyed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cloud_api.access.accounts import set_password
from cloud_api.config import CloudConfig
from cloud_api.devices import enrolled as enrolled_devices
from cloud_api.devices.auth import Revocation
from cloud_api.devices.enrolment import EnrolledDevice, Grant
from daemon import image
from daemon.access.apps import App
from daemon.access.local_access import LocalAccess, make_access
from daemon.access.online import SchoolSignIn
from daemon.database import DeviceDatabase
from daemon.erasure.files import remove
from daemon.gateway import HttpGateway
from daemon.identity import revocation
from daemon.identity.device import TOKEN_FILE, Identity
from daemon.models import MODELS
from daemon.records import LocalRecords
from daemon.sync.round import SyncRound
from domain.clock import HybridClock
from domain.errors import Forbidden
from domain.ids import Id, IdSource
from domain.wire import EnrolAnswer, Limits
from migrations.runner import upgrade_device
from tests.support.cloud import SchoolBuilder, serving
from tests.support.device import DAY_MS, ManualClock, Settings

PASSWORD = "correct horse"
NOWHERE = "http://127.0.0.1:9"


class Laptop:
    """A device of one student in a folder, with the parts of a daemon that speak to the school."""

    def __init__(self, folder: Path, url: str, clock: ManualClock, enrolled: EnrolledDevice | None = None) -> None:
        self.folder, self.clock = folder, clock
        self.closing = ExitStack()
        path = folder / "carrel.db"
        if enrolled:
            upgrade_device(path)
        self.database = DeviceDatabase(path)
        self.database.open(MODELS)
        self.closing.callback(self.database.close)
        ids = IdSource(clock.now_ms)
        self.identity = Identity(self.database, folder, clock, ids)
        if enrolled:
            answer = EnrolAnswer(enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token, ids.new(), Limits())
            self.identity.adopt(answer, url)
        self.records = LocalRecords(self.database, clock, ids, HybridClock(clock), self.identity.device_id)
        self.online = True
        self.rounds = SyncRound(self.database, self.identity, clock, self.gateway)
        school = SchoolSignIn(self.identity, self.gateway)
        self.access: LocalAccess = make_access(
            self.database, folder, clock, ids, Settings(), control_token="control", app_token="app", school=school
        )
        self.app = App("app", "app", ())

    def gateway(self, url: str) -> HttpGateway:
        gateway = HttpGateway(url if self.online else NOWHERE)
        self.closing.callback(gateway.close)
        return gateway

    def sync(self) -> str:
        return self.rounds.run(forced=True).outcome

    def sign_in(self, username: str = "ada", **given: Any) -> str:
        return self.access.sign_in.start(self.app, None, username, given.get("pin"), given.get("password")).token

    def order(self) -> revocation.Order | None:
        return revocation.noted(self.folder)

    def count(self, query: str) -> int:
        with self.database.read() as conn:
            return int(conn.execute(query).fetchone()[0])


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serving(app) as address:
        yield address


@pytest.fixture
def ada(school: SchoolBuilder) -> str:
    made = school.add_user("ada")
    set_password(school.database, school.clock, school.ids, school.id, "ada", PASSWORD)
    return made.id


@pytest.fixture
def enrolled(school: SchoolBuilder, ada: str) -> EnrolledDevice:
    return school.enrol(Grant("student", ada))  # type: ignore[arg-type]


@pytest.fixture
def laptop(tmp_path: Path, url: str, clock: ManualClock, enrolled: EnrolledDevice) -> Iterator[Laptop]:
    opened = Laptop(tmp_path, url, clock, enrolled)
    assert opened.sync() == "done"
    yield opened
    opened.closing.close()


def revoke(school: SchoolBuilder, device: EnrolledDevice, order: Revocation) -> None:
    with school.database.transaction() as cursor:
        enrolled_devices.revoke(cursor, school.ids, school.id, device.id, school.clock.now_ms(), order=order)


def standing(school: SchoolBuilder) -> tuple[Any, ...]:
    with school.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT obeyed_at_ms IS NOT NULL, unsent_at_wipe FROM devices")
        return tuple(cursor.fetchone() or ())


def restart(laptop: Laptop) -> None:
    """What `carrel run` does about an order when it ends, and when it starts."""
    laptop.closing.close()

    def strip(discarding: bool) -> None:
        image.strip(laptop.folder / "carrel.db", laptop.folder, discarding_unsent=discarding)

    with ExitStack() as closing:

        def gateway(url: str) -> HttpGateway:
            opened = HttpGateway(url if laptop.online else NOWHERE)
            closing.callback(opened.close)
            return opened

        revocation.wipe_if_ordered(laptop.folder, strip, gateway, laptop.clock.now_ms)


def files_of(laptop: Laptop) -> set[str]:
    return {path.name for path in laptop.folder.iterdir() if not path.name.endswith(".lock")}


def record(laptop: Laptop, ada: str) -> None:
    """Something that is nowhere else: a change of the profile."""
    laptop.records.update_profile(ada, {"grade": "8"})  # type: ignore[arg-type]


def refused(act: Any) -> str:
    with pytest.raises(Forbidden) as error:
        act()
    return error.value.code


# --- passwords


def test_a_student_signs_in_once_with_the_schools_password_and_then_without_a_network_for_thirty_days(
    laptop: Laptop, clock: ManualClock
) -> None:
    laptop.online = False
    assert refused(lambda: laptop.sign_in(password=PASSWORD)) == "pin_not_set"
    laptop.online = True
    assert refused(lambda: laptop.sign_in(password="wrong one")) == "wrong_password"
    assert laptop.sign_in(password=PASSWORD)
    laptop.online = False
    assert laptop.sign_in(password=PASSWORD)
    assert laptop.sign_in(pin=PASSWORD)
    assert refused(lambda: laptop.sign_in(password="wrong one")) == "wrong_pin"
    clock.advance(30 * DAY_MS + 1)
    assert refused(lambda: laptop.sign_in(password=PASSWORD)) == "pin_expired"
    laptop.online = True
    assert laptop.sign_in(password=PASSWORD)


def test_a_password_that_was_changed_at_school_ends_the_old_one_here_with_the_next_sign_in_online(
    laptop: Laptop, school: SchoolBuilder
) -> None:
    laptop.sign_in(password=PASSWORD)
    set_password(school.database, school.clock, school.ids, school.id, "ada", "another one")
    assert refused(lambda: laptop.sign_in(password=PASSWORD)) == "wrong_password"
    laptop.sign_in(password="another one")
    laptop.online = False
    assert refused(lambda: laptop.sign_in(password=PASSWORD)) == "wrong_pin"


def test_neither_the_password_nor_the_schools_hash_of_it_comes_onto_the_device(laptop: Laptop, school: SchoolBuilder) -> None:
    laptop.sign_in(password=PASSWORD)
    laptop.sync()
    stored = school.value("SELECT password_hash FROM users")
    laptop.closing.close()
    for file in laptop.folder.iterdir():
        data = file.read_bytes()
        assert PASSWORD.encode() not in data, file
        assert stored.encode() not in data, file


# --- tokens


def test_a_device_renews_its_token_by_itself_and_the_old_one_ends(laptop: Laptop, clock: ManualClock, url: str) -> None:
    before = laptop.identity.token()
    clock.advance((CloudConfig().devices.token_days + 1) * DAY_MS)
    assert laptop.sync() == "done"
    after = laptop.identity.token()
    assert after != before
    assert laptop.sync() == "done"
    laptop.identity.renew_token(before, laptop.identity.device_id())
    assert laptop.sync() == "unauthorised"  # and the one before it is tried next
    assert laptop.identity.token() == after
    assert laptop.sync() == "done"


@pytest.mark.parametrize("stored", [False, True])
def test_a_device_that_dies_while_it_renews_its_token_is_not_locked_out(
    laptop: Laptop, clock: ManualClock, url: str, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PowerCut(BaseException):
        pass

    keep = laptop.identity.renew_token

    def dies(token: str, device_id: Id) -> None:
        if stored:
            keep(token, device_id)
        raise PowerCut

    monkeypatch.setattr(laptop.identity, "renew_token", dies)
    clock.advance((CloudConfig().devices.token_days + 1) * DAY_MS)
    with pytest.raises(PowerCut):
        laptop.sync()
    laptop.closing.close()
    again = Laptop(laptop.folder, url, clock)
    assert [again.sync(), again.sync()] == ["done", "done"]
    again.closing.close()


def test_a_server_that_was_restored_from_before_the_renewal_is_still_reached(
    laptop: Laptop, clock: ManualClock, school: SchoolBuilder
) -> None:
    backup = school.value("SELECT encode(token_hash, 'hex') FROM devices")
    clock.advance((CloudConfig().devices.token_days + 1) * DAY_MS)
    assert [laptop.sync(), laptop.sync()] == ["done", "done"]
    with school.database.transaction() as cursor:
        cursor.execute("UPDATE devices SET token_hash = decode(%s, 'hex'), next_token_hash = NULL", (backup,))
    assert [laptop.sync(), laptop.sync()] == ["unauthorised", "done"]


# --- revocations


def test_a_revoked_device_lets_nobody_in_keeps_everything_and_says_so(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, ada: str
) -> None:
    laptop.sign_in(password=PASSWORD)
    record(laptop, ada)
    revoke(school, enrolled, Revocation.LOCK)
    assert laptop.sync() == "unauthorised"
    assert laptop.count("SELECT count(*) FROM student_sessions") == 0
    assert refused(lambda: laptop.sign_in(pin=PASSWORD)) == "device_locked"
    assert laptop.count("SELECT count(*) FROM sync_operations WHERE state = 'pending'") == 1
    assert standing(school) == (True, 1)
    restart(laptop)
    assert laptop.order() is not None
    assert (laptop.folder / TOKEN_FILE).exists()


def test_enrolling_it_again_ends_the_lock(laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, url: str, ada: str) -> None:
    laptop.sign_in(password=PASSWORD)
    record(laptop, ada)
    revoke(school, enrolled, Revocation.LOCK)
    laptop.sync()
    anew = school.enrol(Grant("student", ada))  # type: ignore[arg-type]
    laptop.identity.adopt(EnrolAnswer(anew.id, anew.school_id, anew.school_name, anew.token, "e", Limits()), url)
    assert laptop.sign_in(pin=PASSWORD)
    assert laptop.sync() == "done"
    assert school.value("SELECT grade FROM student_profiles") == "8"


def test_a_device_that_is_to_be_wiped_refuses_while_something_is_unsent_unless_told_otherwise(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, ada: str
) -> None:
    record(laptop, ada)
    revoke(school, enrolled, Revocation.WIPE)
    assert laptop.sync() == "unauthorised"
    assert standing(school) == (False, 1)
    assert not laptop.order().wiping  # type: ignore[union-attr]
    revoke(school, enrolled, Revocation.WIPE_DISCARDING_UNSENT)
    laptop.sync()
    assert laptop.order().wiping  # type: ignore[union-attr]
    restart(laptop)
    assert standing(school) == (True, 0)
    assert laptop.order() is None
    assert b"ada" not in (laptop.folder / "carrel.db").read_bytes()


def test_what_was_set_aside_keeps_a_device_from_being_wiped_and_from_trying_to_be_for_ever(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, ada: str
) -> None:
    record(laptop, ada)
    laptop.database.write(lambda conn: conn.execute("UPDATE sync_operations SET payload = '{'").rowcount)
    assert laptop.sync() == "done"
    assert laptop.count("SELECT count(*) FROM sync_operations WHERE state = 'rejected' AND code = 'set_aside'") == 1
    revoke(school, enrolled, Revocation.WIPE)
    assert laptop.sync() == "unauthorised"
    assert not laptop.order().wiping  # type: ignore[union-attr]
    assert standing(school) == (False, 1)


def test_a_wiped_device_has_no_byte_left_of_anybody_and_the_school_knows_whenever_it_can_be_told(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, clock: ManualClock
) -> None:
    laptop.sign_in(password=PASSWORD)
    revoke(school, enrolled, Revocation.WIPE)
    laptop.sync()
    laptop.online = False
    restart(laptop)
    assert files_of(laptop) == {"carrel.db", "revoked.json"}
    assert all(b"ada" not in path.read_bytes().lower() for path in laptop.folder.iterdir())
    assert standing(school) == (False, None)
    laptop.online = True
    restart(laptop)
    assert standing(school) == (True, 0)
    assert files_of(laptop) == {"carrel.db"}


def test_NO_WEDGE_a_wipe_that_a_file_withstands_is_tried_again_less_and_less_often_and_spares_nothing_else(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.sign_in(password=PASSWORD)
    stubborn = laptop.folder / "pin.key"
    stubborn.touch()

    def withstand(path: Path) -> None:
        if path == stubborn:
            raise PermissionError(1, "Operation not permitted", str(path))
        remove(path)

    monkeypatch.setattr(image, "remove", withstand)
    revoke(school, enrolled, Revocation.WIPE)
    laptop.sync()
    assert revocation.noted(laptop.folder).is_due(laptop.clock.now_ms())  # type: ignore[union-attr]
    waits = []
    for _ in range(12):
        restart(laptop)
        order = laptop.order()
        assert order is not None
        assert not order.is_due(laptop.clock.now_ms())
        assert order.is_due(order.retry_at_ms)
        waits.append(order.retry_at_ms - laptop.clock.now_ms())
    assert waits[:3] == [revocation.RETRY_FIRST_MS * 2**n for n in range(3)]
    assert waits[-1] == revocation.RETRY_MAX_MS
    assert order is not None
    assert str(stubborn) in str(order.sentence())
    assert not order.is_due(laptop.clock.now_ms() + 1)
    assert order.is_due(0), "a clock that was set back does not put it off"
    assert files_of(laptop) == {"carrel.db", "revoked.json", stubborn.name}
    assert b"ada" not in (laptop.folder / "carrel.db").read_bytes().lower()
    assert standing(school) == (False, None)
    monkeypatch.undo()
    restart(laptop)
    assert standing(school) == (True, 0)
    assert files_of(laptop) == {"carrel.db"}


def test_what_is_written_between_the_order_and_the_wipe_is_not_lost(
    laptop: Laptop, school: SchoolBuilder, enrolled: EnrolledDevice, ada: str
) -> None:
    revoke(school, enrolled, Revocation.WIPE)
    laptop.sync()
    record(laptop, ada)
    restart(laptop)
    order = laptop.order()
    assert order is not None
    assert not order.wiping
    assert (laptop.folder / TOKEN_FILE).exists()
