"""Laptops that enrol without a person, from the file that came with their image, at a real server."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_api.devices.enrolment import Grant
from daemon.database import DeviceDatabase
from daemon.durable_file import replace_json
from daemon.gateway import HttpGateway
from daemon.identity.device import REVOKED_FILE, Identity
from daemon.identity.enrolment import Enrolment
from daemon.identity.provisioning import FILE_NAME, REFUSED_RETRY_S, RETRY_FIRST_S, RETRY_MAX_S, Provisioning
from daemon.models import MODELS
from domain.ids import IdSource
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock
from tests.support.fleet import migrated_file

LAPTOPS = 30
SPREAD_S = 30.0


class Laptop:
    """One that was made from the image and is switched on, with a clock of its own; `chance` is what it throws."""

    def __init__(self, folder: Path, text: str | None, chance: float = 0.0) -> None:
        folder.mkdir()
        shutil.copyfile(migrated_file(), folder / "device.sqlite3")
        self.file, self.clock = folder / FILE_NAME, ManualClock()
        if text is not None:
            self.file.write_text(text)
            self.file.chmod(0o600)
        self.database = DeviceDatabase(folder / "device.sqlite3")
        self.database.open(MODELS)
        self.identity = Identity(self.database, folder, self.clock, IdSource(self.clock.now_ms))
        self.asked = 0
        self.provisioning = Provisioning(self.file, Enrolment(self.identity, self._gateway), self.clock, SPREAD_S, lambda: chance)

    def _gateway(self, url: str) -> HttpGateway:
        self.asked += 1
        return HttpGateway(url)

    @property
    def is_enrolled(self) -> bool:
        return self.identity.current() is not None


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    with ExitStack() as closing:
        yield Image(tmp_path, closing)


class Image:
    """What laptops are made from."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self._folder, self._closing, self._made = folder, closing, 0

    def laptop(self, text: str | None, chance: float = 0.0) -> Laptop:
        self._made += 1
        made = Laptop(self._folder / f"laptop-{self._made}", text, chance)
        self._closing.callback(made.database.close)
        return made


def says(url: str, code: str) -> str:
    return f'cloud_url = "{url}"\ncode = "{code}"\n'


def code_of(school: SchoolBuilder, uses: int = 1) -> str:
    """A code for a student of the school."""
    return school.code(Grant("student", school.add_user(f"student-{secrets.token_hex(4)}").id), uses=uses)


def test_laptops_of_one_image_become_devices_of_their_own_and_the_code_is_gone(
    cloud_school: SchoolBuilder, live_cloud: str, image: Image
) -> None:
    text = says(live_cloud, code_of(cloud_school, uses=LAPTOPS))
    laptops = [image.laptop(text, number / LAPTOPS) for number in range(LAPTOPS)]
    begun = []
    for _ in range(int(SPREAD_S)):
        due = [laptop for laptop in laptops if not laptop.is_enrolled]
        threads = [threading.Thread(target=laptop.provisioning.look) for laptop in due]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begun.append(sum(laptop.is_enrolled for laptop in due))
        for laptop in laptops:
            laptop.clock.advance(1_000)
    assert all(laptop.is_enrolled for laptop in laptops)
    assert len({laptop.identity.device_id() for laptop in laptops}) == LAPTOPS
    assert max(begun) <= 2, "they do not ask at once"
    assert not any(laptop.file.exists() for laptop in laptops)
    assert cloud_school.value("SELECT count(*) FROM devices") == LAPTOPS
    assert cloud_school.value("SELECT uses_left FROM enrolment_codes") == 0
    assert not any(laptop.provisioning.notice() for laptop in laptops)


def test_a_laptop_too_many_keeps_its_file_and_says_why(cloud_school: SchoolBuilder, live_cloud: str, image: Image) -> None:
    text = says(live_cloud, code_of(cloud_school, uses=1))
    first, second = image.laptop(text), image.laptop(text)
    first.provisioning.look()
    second.provisioning.look()
    assert (first.is_enrolled, second.is_enrolled) == (True, False)
    assert "does not take this code" in str(second.provisioning.notice())
    assert second.file.exists()
    second.clock.advance(int(REFUSED_RETRY_S * 1000))
    second.file.write_text(says(live_cloud, code_of(cloud_school)))
    second.provisioning.look()
    assert second.is_enrolled
    assert second.provisioning.notice() is None


def test_a_server_that_is_away_is_asked_again_less_and_less_often(image: Image) -> None:
    laptop = image.laptop(says("http://127.0.0.1:9", "KQ4M-7TXD-2PFH"), chance=0.5)
    laptop.clock.advance(int(SPREAD_S * 1000))
    waits, waited_s = [], 0
    for _ in range(3 * int(RETRY_MAX_S)):
        before = laptop.asked
        laptop.provisioning.look()
        if laptop.asked != before:
            waits.append(waited_s)
            waited_s = 0
        laptop.clock.advance(1_000)
        waited_s += 1
    assert waits[1:4] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert max(waits) == RETRY_MAX_S
    assert "cannot be reached" in str(laptop.provisioning.notice())


def test_a_file_that_others_can_read_is_not_used(cloud_school: SchoolBuilder, live_cloud: str, image: Image) -> None:
    laptop = image.laptop(says(live_cloud, code_of(cloud_school)))
    laptop.file.chmod(0o644)
    laptop.provisioning.look()
    assert not laptop.is_enrolled
    assert "0600" in str(laptop.provisioning.notice())
    assert cloud_school.value("SELECT uses_left FROM enrolment_codes") == 1


@pytest.mark.parametrize(
    "text", ["", "no table", 'code = "x"', 'cloud_url = "http://127.0.0.1:9"\ncode = "x"\nextra = 1', 'cloud_url = 7\ncode = "x"']
)
def test_a_file_that_says_something_else_is_not_used(image: Image, text: str) -> None:
    laptop = image.laptop(text)
    laptop.provisioning.look()
    assert laptop.asked == 0
    assert "must say cloud_url" in str(laptop.provisioning.notice())


def test_a_device_that_is_enrolled_uses_no_code_and_removes_the_file(cloud_school: SchoolBuilder, live_cloud: str, image: Image) -> None:
    """What a kill between the enrolment and the removal leaves."""
    text = says(live_cloud, code_of(cloud_school, uses=2))
    laptop = image.laptop(text)
    laptop.provisioning.look()
    laptop.file.write_text(text)
    laptop.file.chmod(0o600)
    laptop.provisioning.look()
    assert not laptop.file.exists()
    assert cloud_school.value("SELECT uses_left FROM enrolment_codes") == 1


def test_a_file_gives_a_revoked_device_back_into_service_unless_it_was_there_before(
    cloud_school: SchoolBuilder, live_cloud: str, image: Image
) -> None:
    text = says(live_cloud, code_of(cloud_school, uses=2))
    laptop = image.laptop(text)
    laptop.provisioning.look()
    before = laptop.identity.device_id()
    laptop.file.write_text(text)
    laptop.file.chmod(0o600)
    order = laptop.identity.state_dir / REVOKED_FILE
    replace_json(order, {"code": "device_revoked", "cloud_url": live_cloud, "token": laptop.identity.token()})
    os.utime(order, (2**32, 2**32))
    laptop.provisioning.look()
    assert laptop.file.exists()
    assert "was there before" in str(laptop.provisioning.notice())
    os.utime(order, (1, 1))
    laptop.provisioning.look()
    assert laptop.identity.device_id() != before
    assert not order.exists()
    assert not laptop.file.exists()
    assert laptop.provisioning.notice() is None


def test_without_a_file_nothing_happens(image: Image) -> None:
    laptop = image.laptop(None)
    laptop.provisioning.look()
    assert laptop.asked == 0
    assert laptop.provisioning.notice() is None
