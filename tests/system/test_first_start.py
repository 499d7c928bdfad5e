"""The first start of a laptop that was made from an image with a provisioning file in it: a real daemon, and nobody who types anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from daemon.identity.provisioning import FILE_NAME
from tests.support.daemon_process import WAIT_S, Carrel, carrel, school

__all__ = ["carrel", "school"]
POLL_S = 0.1


@pytest.fixture
def laptop(carrel: Carrel) -> Carrel:
    """One that asks at once, since it is alone."""
    carrel.environ["CARREL_DEVICE_PROVISIONING_SPREAD_S"] = "0"
    carrel.state_dir.mkdir(mode=0o700)
    return carrel


def provide(laptop: Carrel, url: str, code: str) -> None:
    file = laptop.state_dir / FILE_NAME
    file.touch(0o600)
    file.write_text(f'cloud_url = "{url}"\ncode = "{code}"\n')


def wait_for(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(POLL_S)


def test_a_laptop_with_the_file_is_a_device_of_its_school_and_the_file_is_gone(laptop: Carrel, school: str) -> None:
    provide(laptop, school, "open-sesame")
    laptop.start()
    wait_for(lambda: not (laptop.state_dir / FILE_NAME).exists())
    assert "This is a device of Hill School." in laptop.command("status").stdout


def test_what_keeps_a_laptop_from_it_is_said_and_the_file_stays(laptop: Carrel, school: str) -> None:
    provide(laptop, school, "wrong")
    laptop.start()
    wait_for(lambda: "could not be enrolled yet" in laptop.command("status").stdout)
    assert (laptop.state_dir / FILE_NAME).exists()
