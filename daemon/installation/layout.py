"""Where an installed Carrel lies, and which units, accounts and settings a device and a school's server have.

/opt/carrel/versions/0.1.0-1f0c9b2e4a77/   an environment for each wheel; the present one and the one before it are kept
/opt/carrel/current, previous              links to two of them
/opt/carrel/bin/                           the commands, by way of `current`
/opt/carrel/unfinished                     while the machine is being changed: which version served before
/etc/carrel/config.toml                    settings, without secrets; never overwritten
/etc/systemd/system/, /etc/sysusers.d/     units and accounts
/Library/LaunchDaemons/                    property lists, on a Mac
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from domain.errors import OperatorError

PROGRAMS = ("carrel", "carrel-cloud", "carrel-migrate")


@dataclass(frozen=True)
class Role:
    """What a machine can be. `start` are the units that are enabled and started, in this order; the last must be up for it to run."""

    name: str
    account: str
    units: tuple[str, ...]
    start: tuple[str, ...]
    main_unit: str
    extra: str
    state: str

    @property
    def sysusers(self) -> str:
        """The file that makes the account."""
        return f"{self.account}.sysusers.conf"


DEVICE = Role(
    "device",
    "carrel",
    ("carrel.service", "carrel.socket", "carrel-backup.service", "carrel-backup.timer"),
    ("carrel.socket", "carrel-backup.timer", "carrel.service"),
    "carrel.service",
    "",
    "var/lib/carrel",
)
SERVER = Role(
    "server",
    "carrel-cloud",
    (
        "carrel-cloud.service",
        "carrel-cloud-backup.service",
        "carrel-cloud-backup.timer",
        "carrel-cloud-tidy.service",
        "carrel-cloud-tidy.timer",
        "carrel-cloud-snapshot.service",
        "carrel-cloud-snapshot.timer",
        "carrel-cloud-refit.service",
        "carrel-cloud-refit.timer",
    ),
    (
        "carrel-cloud-backup.timer",
        "carrel-cloud-tidy.timer",
        "carrel-cloud-snapshot.timer",
        "carrel-cloud-refit.timer",
        "carrel-cloud.service",
    ),
    "carrel-cloud.service",
    "cloud",
    "var/lib/carrel-cloud",
)
ROLES = {role.name: role for role in (DEVICE, SERVER)}
MAC_DEVICE = Role(
    "device",
    "_carrel",
    ("school.carrel.daemon.plist", "school.carrel.backup.plist"),
    ("school.carrel.backup.plist", "school.carrel.daemon.plist"),
    "school.carrel.daemon.plist",
    "",
    "Library/Application Support/Carrel",
)
MAC_ROLES = {MAC_DEVICE.name: MAC_DEVICE}


@dataclass(frozen=True)
class Layout:
    """The paths, below `root`."""

    root: Path = Path("/")
    is_mac: bool = sys.platform == "darwin"

    @property
    def roles(self) -> dict[str, Role]:
        """What such a machine can be, by name."""
        return MAC_ROLES if self.is_mac else ROLES

    @property
    def device(self) -> Role:
        return self.roles["device"]

    def role(self, name: str) -> Role:
        """Raises OperatorError for what such a machine cannot be."""
        if name not in self.roles:
            raise OperatorError(f"A Mac can be a device; a {name} wants Linux with systemd.")
        return self.roles[name]

    @property
    def prefix(self) -> Path:
        return self.root / "opt/carrel"

    @property
    def versions(self) -> Path:
        return self.prefix / "versions"

    @property
    def current(self) -> Path:
        return self.prefix / "current"

    @property
    def previous(self) -> Path:
        return self.prefix / "previous"

    @property
    def unfinished(self) -> Path:
        return self.prefix / "unfinished"

    @property
    def config(self) -> Path:
        return self.root / "etc/carrel/config.toml"

    @property
    def database_address(self) -> Path:
        """DATABASE_URL of a server, with its password."""
        return self.root / "etc/carrel/cloud.env"

    @property
    def units(self) -> Path:
        return self.root / ("Library/LaunchDaemons" if self.is_mac else "etc/systemd/system")

    def sysusers(self, role: Role) -> Path:
        return self.root / "etc/sysusers.d" / f"{role.account}.conf"

    def state(self, role: Role) -> Path:
        return self.root / role.state

    @property
    def database(self) -> Path:
        """The device's: where the settings say, else in its state folder."""
        try:
            text = tomllib.loads(self.config.read_text("utf-8"))["device"]["database_path"]
        except (OSError, ValueError, KeyError, TypeError):  # no settings, or wrong ones, which keep the service itself from starting
            text = ""
        return Path(text) if text and isinstance(text, str) else self.state(self.device) / "carrel.sqlite3"

    def has(self, role: Role) -> bool:
        """Whether the role is installed here."""
        return (self.units / role.main_unit).exists()

    def program(self, name: str) -> Path:
        return self.prefix / "bin" / name


def shipped(environment: Path, name: str) -> Path:
    """A file that a version brings along: `config.toml`, `systemd/carrel.service`. Raises OperatorError."""
    path = environment / "share" / "carrel" / name
    if not path.is_file():
        raise OperatorError(f"{name} did not come with the version in {environment}: install another.")
    return path
