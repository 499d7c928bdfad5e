"""`carrel bundle` and `carrel-cloud bundle`, with a running daemon and without; and the keys that enrolment gives."""

from __future__ import annotations

import json
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cloud_api.cli
import daemon.cli
from cloud_api.devices.enrolment import Grant
from daemon.bundles.spool import INCOMING, OUTGOING
from daemon.commands import bundle as bundle_command
from daemon.config import load_config
from daemon.database import DeviceDatabase
from daemon.gateway import HttpGateway
from daemon.identity.device import Identity
from daemon.identity.enrolment import Enrolment
from daemon.identity.keys import KEYS_FILE
from daemon.models import MODELS
from daemon.process.state_folder import locked
from daemon.service import Service
from domain.errors import NotEnrolled, OperatorError
from domain.ids import Id
from tests.support.device import OfflineGateway
from tests.support.fleet import Fleet, SyncedDevice, migrated_file
from tests.support.stick import at_school, device_with_keys, taken_at_school, written_by


@pytest.fixture
def laptop(fleet: Fleet, ada: Id) -> SyncedDevice:
    device = device_with_keys(fleet, Grant("student", ada))
    device.sync()
    device.records.record_attempts(ada, fleet.attempts(3))
    device.records.update_profile(ada, {"grade": "7"})
    return device


@pytest.fixture(params=["running", "stopped"])
def carrel(request: pytest.FixtureRequest, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Runs `carrel bundle` on the laptop, whose daemon runs or does not."""
    monkeypatch.setattr(bundle_command, "leave_out_postgres", lambda: None)  # other tests of this process need it

    environ = environ_of(laptop.folder)
    laptop.database.close()

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(daemon.cli.main, ["bundle", *map(str, arguments)], env=environ | {"CARREL_CONFIG": None})

    with running(laptop.folder, environ) if request.param == "running" else nullcontext():
        yield run


def environ_of(folder: Path) -> dict[str, str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    database = f"sqlite:///{folder}/device.sqlite3"
    return {"CARREL_DEVICE_STATE_DIR": str(folder), "SQLITE_DATABASE_URL": database, "CARREL_DEVICE_API_PORT": str(port)}


@contextmanager
def running(folder: Path, environ: dict[str, str]) -> Iterator[None]:
    """The daemon of a folder in this process; its school cannot be reached."""
    with locked(folder):
        service = Service(load_config(None, environ), environ, gateway_for=lambda url: OfflineGateway())
        service.start()
        try:
            yield
        finally:
            service.stop()


@pytest.fixture
def carrel_cloud(cloud_database: str) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cloud_api.cli.main, ["bundle", *map(str, arguments)], env={"DATABASE_URL": cloud_database})

    return run


def reopened(fleet: Fleet, device: SyncedDevice) -> SyncedDevice:
    """The device as a test looks at it, whoever has worked on its file meanwhile."""
    return fleet.open(device.folder)


def test_answers_go_to_school_and_back_by_stick(
    fleet: Fleet, laptop: SyncedDevice, carrel: Callable[..., Result], carrel_cloud: Callable[..., Result], tmp_path: Path
) -> None:
    file, ack = tmp_path / "laptop.carrel-bundle", tmp_path / "laptop.answer.carrel-bundle"
    written = carrel("export", file)
    assert written.output.startswith("3 answers and 1 other change in 1 KiB; carry "), written.output
    taken = carrel_cloud("import", file)
    assert taken.output.startswith("4 changes of test device: 4 new, 0 here already.\n"), taken.output
    assert str(ack) in taken.output
    back = carrel("import", ack)
    assert back.output.startswith("4 changes of this device's are at school now."), back.output
    again = carrel("import", ack)
    assert (again.exit_code, again.output) == (0, "There is nothing in it that is not here already.\n")
    assert reopened(fleet, laptop).rounds.status().pending == 0
    assert fleet.server("SELECT count(*) FROM question_attempts") == [(3,)]
    assert not any((laptop.folder / name).exists() for name in (INCOMING, OUTGOING))


def test_a_bundle_of_a_device_with_nothing_to_say_asks_for_what_is_new(
    fleet: Fleet, laptop: SyncedDevice, carrel: Callable[..., Result], tmp_path: Path
) -> None:
    for path in (tmp_path / "1", tmp_path / "2"):
        answer = json.loads(carrel("export", path, "--json").stdout)
        taken = taken_at_school(fleet, path.read_bytes())
        (tmp_path / "ack").write_bytes(taken.answer.data)
        carrel("import", tmp_path / "ack")
    assert answer == {"file": str(path), "bytes": path.stat().st_size, "operations": 0, "answers": 0, "left": 0}
    assert "Nothing waits to be sent" in carrel("export", tmp_path / "3").output


def test_no_file_is_overwritten_unless_that_is_asked_for(
    laptop: SyncedDevice, carrel: Callable[..., Result], carrel_cloud: Callable[..., Result], tmp_path: Path
) -> None:
    file, holiday = tmp_path / "a.carrel-bundle", tmp_path / "holiday.jpg"
    holiday.write_text("sea")
    refused = carrel("export", holiday)
    assert (refused.exit_code, holiday.read_text()) == (OperatorError.exit_code, "sea")
    assert "exists already" in refused.output
    assert carrel("export", file).exit_code == 0
    refused = carrel_cloud("import", file, "--ack", holiday)
    assert (refused.exit_code, holiday.read_text()) == (OperatorError.exit_code, "sea")
    assert carrel("export", file, "--force").exit_code == 0
    assert carrel_cloud("import", file, "--ack", holiday, "--force").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.carrel-bundle", "holiday.jpg"]


def test_a_refused_bundle_is_a_sentence(
    laptop: SyncedDevice, carrel: Callable[..., Result], carrel_cloud: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "a.carrel-bundle"
    carrel("export", file)
    wrong_way = carrel("import", file)
    assert (wrong_way.exit_code, wrong_way.stderr) == (
        1,
        "carrel: This bundle is for a school's server (carrel-cloud bundle import).\n",
    )
    file.write_bytes(file.read_bytes()[:-1])
    cut = carrel_cloud("import", file, "--ack", tmp_path / "ack")
    assert (cut.exit_code, cut.stderr) == (1, "carrel-cloud: The bundle is cut off: 1 bytes are missing. Copy it again.\n")
    assert not (tmp_path / "ack").exists()
    missing = carrel("import", tmp_path / "nowhere")
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (1, True)
    nowhere = carrel("export", tmp_path / "nowhere" / "a")
    assert (nowhere.exit_code, "There is no folder" in nowhere.stderr) == (1, True)


def test_what_is_new_at_school_is_exported_for_a_device(
    fleet: Fleet, laptop: SyncedDevice, carrel: Callable[..., Result], carrel_cloud: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "feed"
    made = json.loads(carrel_cloud("export", "--device", laptop.id, file, "--json").stdout)
    assert made == {"file": str(file), "rows": made["rows"], "more": False, "bytes": file.stat().st_size}
    assert made["rows"] > len(fleet.questions)
    assert json.loads(carrel("import", file, "--json").stdout)["rows"] == 0, "it has all of it already"
    assert carrel_cloud("export", "--device", "0" * 32, tmp_path / "x").exit_code == 1


def test_a_bundle_for_another_device_is_refused_by_name(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, carrel: Callable[..., Result], tmp_path: Path
) -> None:
    file = tmp_path / "feed"
    file.write_bytes(at_school(fleet).give(device_with_keys(fleet, Grant("student", ada)).id).data)
    refused = carrel("import", file)
    assert (refused.exit_code, refused.stderr) == (1, "carrel: This bundle is for another device.\n")


def test_a_device_that_is_not_enrolled_has_no_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_command, "leave_out_postgres", lambda: None)
    shutil.copyfile(migrated_file(), tmp_path / "device.sqlite3")
    environ = environ_of(tmp_path) | {"CARREL_CONFIG": None}
    result = CliRunner().invoke(daemon.cli.main, ["bundle", "export", str(tmp_path / "x")], env=environ)
    assert result.exit_code == NotEnrolled.exit_code


# --- keys


def enrolled(fleet: Fleet, folder: Path, code: str) -> SyncedDevice:
    """A device that was enrolled as `carrel enrol` does it, over HTTP."""
    database = DeviceDatabase(folder / "device.sqlite3")
    database.open(MODELS)
    gateway = HttpGateway(fleet.url)
    try:
        identity = Identity(database, folder, fleet.school.clock, fleet.school.ids)
        Enrolment(identity, lambda url: gateway).enrol(fleet.url, code, "desk")
    finally:
        gateway.close()
        database.close()
    return fleet.open(folder)


def test_enrolment_gives_both_sides_keys_that_only_they_can_read(fleet: Fleet, ada: Id, tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copyfile(migrated_file(), folder / "device.sqlite3")
    desk = enrolled(fleet, folder, fleet.school.code(Grant("student", ada)))
    assert stat.S_IMODE((folder / KEYS_FILE).stat().st_mode) == 0o600
    kept = json.loads((folder / KEYS_FILE).read_bytes())
    stored = fleet.server("SELECT encode(verify_key, 'hex'), encode(seal_key, 'hex') FROM devices WHERE id = %s", desk.id)
    assert stored == [(kept["public_verify"], kept["public_seal"])]
    secrets_of_device = {kept["sign"], kept["seal"]}
    with desk.database.read() as conn:
        dump = "\n".join(map(repr, conn.execute("SELECT * FROM identity").fetchall()))
    assert not any(secret in dump for secret in secrets_of_device)
    assert taken_at_school(fleet, written_by(desk)).operations == 0


def test_a_device_that_is_enrolled_again_has_other_keys(fleet: Fleet, ada: Id, tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copyfile(migrated_file(), folder / "device.sqlite3")
    code = fleet.school.code(Grant("student", ada), uses=2)
    first = enrolled(fleet, folder, code)
    before = (folder / KEYS_FILE).read_bytes()
    first.database.close()
    second = enrolled(fleet, folder, code)
    assert (folder / KEYS_FILE).read_bytes() != before
    assert taken_at_school(fleet, written_by(second)).device_id == second.id != first.id


@pytest.mark.parametrize("keys", [{"verify_key": "00"}, {"verify_key": "0" * 64}, {"verify_key": "G" * 64, "seal_key": "0" * 64}])
def test_keys_that_are_none_are_refused_at_enrolment(fleet: Fleet, ada: Id, cloud_app: Any, keys: dict[str, str]) -> None:
    code = fleet.school.code(Grant("student", ada))
    answer = cloud_app.post("/v1/devices/enrol", json={"code": code, **keys})
    assert (answer.status_code, answer.get_json()["code"]) == (422, "invalid")
    assert cloud_app.post("/v1/devices/enrol", json={"code": code}).status_code == 201
