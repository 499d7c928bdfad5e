"""docs/examples/devices.yml, run by Ansible on a machine that boots for it, which has a school's server of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.booted import FIRST, WHEELS, Machine, booted, why_not
from tests.support.examples import DOCS
from tests.system.test_booted_server import SERVERS, start_postgres

PLAYBOOK = DOCS / "examples" / "devices.yml"
ANSIBLE = "/usr/bin/ansible-playbook"
COMMAND_MAX_S = 60
MISSING = (
    why_not()
    or (None if Path(ANSIBLE).exists() else "needs Ansible of the operating system")
    or (None if SERVERS else "needs PostgreSQL of the operating system")
)
needs_a_machine = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
CARREL = "/opt/carrel/bin/carrel"
# A laptop waits by chance before it enrols, so that many do not come together; this one is alone. Settings that are there stay.
SETTINGS = '[device]\\nstate_dir = "/var/lib/carrel"\\n[device.provisioning]\\nspread_s = 0.0\\n'
CLOUD_URL = "http://127.0.0.1:8751"
DATABASE_URL = "postgresql://carrel@127.0.0.1/carrel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ansible")


@pytest.fixture(scope="module")
def machine(folder: Path) -> Iterator[Machine]:
    """A machine with a school's server, on which the playbook lies beside the wheels."""
    with booted(folder) as running:
        start_postgres(running, SERVERS[-1].parent)
        service = ("systemd-run", "--quiet", "--unit=cloud", "--uid=nobody", "-E", f"DATABASE_URL={DATABASE_URL}", "-E", "HOME=/tmp")
        running.run(*service, f"{FIRST}/bin/python", "-m", "cloud_api.cli", "serve")
        place = folder / "machine" / "opt" / "playbook"
        place.mkdir()
        shutil.copy(PLAYBOOK, place)
        running.run("tar", "-cf", "/opt/playbook/wheels.tar", "--owner=root", "--group=root", "-C", str(WHEELS), ".")
        (place / "inventory").write_text("[laptops]\nlocalhost ansible_connection=local\n")
        yield running


def cloud(machine: Machine, *command: str) -> str:
    """What `carrel-cloud` prints."""
    environ = ("env", f"DATABASE_URL={DATABASE_URL}", "HOME=/tmp")
    return machine.run(*environ, f"{FIRST}/bin/python", "-m", "cloud_api.cli", *command).stdout.strip()


def play(machine: Machine, code: str) -> dict[str, int]:
    """What Ansible says that it did: ok, changed, failed and so on."""
    given = {"carrel_enrol_code": code, "carrel_cloud_url": CLOUD_URL, "ansible_become": False}
    environ = ("env", "ANSIBLE_NOCOLOR=1", "HOME=/root", "ANSIBLE_LOCALHOST_WARNING=false")
    playbook = (ANSIBLE, "-i", "/opt/playbook/inventory", "-e", json.dumps(given), f"/opt/playbook/{PLAYBOOK.name}")
    done = machine.run(*environ, *playbook, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", done.stdout.rpartition("PLAY RECAP")[2])}


@pytest.mark.skipif(not Path(ANSIBLE).exists(), reason="needs Ansible of the operating system")
def test_ansible_can_read_the_playbook() -> None:
    command = [ANSIBLE, "--syntax-check", "-i", "laptop,", str(PLAYBOOK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_a_machine
def test_ansible_makes_a_laptop_a_device_of_the_school(machine: Machine) -> None:
    ready = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8751/readyz', timeout=30).status)"
    machine.wait_for(lambda: "200" in machine.run(f"{FIRST}/bin/python", "-c", ready, check=False).stdout, "the server")
    cloud(machine, "school", "create", "Hill School")
    cloud(machine, "user", "create", "--school", "Hill School", "--username", "ada", "--display-name", "Ada")
    code = cloud(machine, "enrol-code", "create", "--school", "Hill School", "--student", "ada")
    machine.run("sh", "-c", f"mkdir -p /etc/carrel && printf '{SETTINGS}' >/etc/carrel/config.toml")
    assert play(machine, code)["changed"] > 0
    machine.wait_for(lambda: machine.run("ls", "/var/lib/carrel/device.token", check=False).returncode == 0, "the token")
    machine.wait_for(lambda: machine.run("ls", "/var/lib/carrel/provisioning.toml", check=False).returncode != 0, "the file's end")
    assert "Hill School" in machine.run_as("carrel", CARREL, "status").stdout


@needs_a_machine
def test_a_second_run_changes_nothing(machine: Machine) -> None:
    """After the first one."""
    before = machine.shown("carrel.service", "MainPID")
    done = play(machine, "0000-0000-0000")
    assert (done["changed"], done["failed"], machine.shown("carrel.service", "MainPID")) == (0, 0, before)
    assert len(json.loads(cloud(machine, "device", "list", "--school", "Hill School", "--json"))) == 1
