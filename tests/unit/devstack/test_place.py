"""Where a stack lives: ports are looked at before anything is started, and a clone's stack touches nobody else's data."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.place import Place
from domain.errors import OperatorError

FREE = {"CARREL_DEVICE_API_PORT": "0", "CARREL_CLOUD_SERVER_PORT": "0"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text('[device]\ndatabase_path = "/var/lib/carrel/real.sqlite3"\ninbox_dir = "/var/lib/carrel/inbox"\n')
    return file


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("variable", "key"),
    [("CARREL_DEVICE_API_PORT", "[device.api] port"), ("CARREL_CLOUD_SERVER_PORT", "[cloud.server] port")],
)
def test_a_taken_port_is_said_with_the_way_to_another_before_anything_is_made(
    tmp_path: Path, config: Path, taken_port: int, variable: str, key: str
) -> None:
    with pytest.raises(OperatorError) as refused:
        Place.choose(tmp_path / "state", config, FREE | {variable: str(taken_port)})
    assert f"Port {taken_port} of 127.0.0.1" in refused.value.message
    assert variable in refused.value.message
    assert key in refused.value.message
    assert not (tmp_path / "state").exists()


def test_port_0_becomes_a_free_port_that_the_processes_are_told(tmp_path: Path, config: Path) -> None:
    place = Place.choose(tmp_path / "state", config, FREE)
    assert place.device.port != place.cloud.port
    assert place.environ["CARREL_DEVICE_API_PORT"] == str(place.device.port)
    assert place.environ["CARREL_CLOUD_SERVER_PORT"] == str(place.cloud.port)
    assert place.cloud.url == f"http://127.0.0.1:{place.cloud.port}"


def test_the_paths_of_an_installed_daemon_are_not_touched(tmp_path: Path, config: Path) -> None:
    place = Place.choose(tmp_path / "state", config, FREE | {"CARREL_DEVICE_STATE_DIR": "/var/lib/carrel"})
    assert place.device_database == tmp_path / "state" / "device" / "carrel.sqlite3"
    assert place.environ["CARREL_DEVICE_STATE_DIR"] == str(tmp_path / "state" / "device")
    assert place.environ["CARREL_DEVICE_INBOX_DIR"] == ""
    assert place.environ["CARREL_CLOUD_ERASURES_FILE"] == str(tmp_path / "state" / "erasures.jsonl"), "not among those of this account"


def test_a_server_that_listens_everywhere_is_reached_on_this_machine(tmp_path: Path, config: Path) -> None:
    place = Place.choose(tmp_path / "state", config, FREE | {"CARREL_CLOUD_SERVER_HOST": "0.0.0.0"})
    assert place.cloud.url.startswith("http://127.0.0.1:")
