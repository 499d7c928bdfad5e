"""The device's settings: the table `[device]` of config.toml, and the paths that follow from it.

`DeviceSettings` is what the file and the environment say (domain/settings.py), `DeviceConfig` what the daemon works with. config.toml in
the source tree shows every key with its default; a test holds the two together.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from domain.errors import InvalidConfig, OperatorError, Problem
from domain.server_key import MARK, read_name
from domain.settings import load, setting
from migrations.private_files import make_private_folder

SECTION = "device"
CONFIG_NAME = "config.toml"
# Names the file to read instead of those that are looked for.
CONFIG_VARIABLE = "CARREL_CONFIG"
# The database's address as other programs write it; wins over `database_path`.
DATABASE_VARIABLE = "SQLITE_DATABASE_URL"
STATE_DIR_VARIABLE = "CARREL_DEVICE_STATE_DIR"
# Where an administrator configures every account of a machine at once.
SYSTEM_CONFIG = Path("/etc/carrel") / CONFIG_NAME
DATABASE_NAME = "carrel.sqlite3"
INBOX_NAME = "inbox"
LOG_LEVELS = ("debug", "info", "warning", "error")
# The addresses of the localhost API, both of which it takes. At another that leads back here, such as 127.0.0.2, it would leave `localhost` to others.
LOOPBACKS = ("127.0.0.1", "::1")
PRIVATE_FOLDER_MODE = 0o700


def _loopback_problem(host: str) -> str | None:
    return None if host in LOOPBACKS else "must be a loopback address, 127.0.0.1 or ::1: the API is for programs on this machine"


def _address_problem(url: str) -> str | None:
    """Empty, or http(s)://host[:port][/path] without a user, a password or a question."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        plain = bool(parts.hostname) and parts.port != 0 and not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        plain = False
    return None if plain and parts.scheme in ("http", "https") else "must be an address like https://carrel.example.school"


def _cloud_problem(url: str) -> str | None:
    """The same, and perhaps the name of the server's key behind it."""
    address, _, key = url.partition(MARK)
    try:
        names = [read_name(text) for text in key.split(",")] if key else []
    except ValueError:
        return "must have nothing but the name of the server's key behind #"
    return _address_problem(address) or (None if names or MARK not in url else "must name a key behind #")


def _origins_problem(origins: list[str]) -> str | None:
    bad = [o for o in origins if not o or _address_problem(o) or urlsplit(o).path]
    return "must be origins like http://localhost:3000, without a path" if bad else None


@dataclass(frozen=True)
class ApiSettings:
    """[device.api]"""

    host: str = setting("127.0.0.1", "The loopback address on which apps reach the daemon.", check=_loopback_problem)
    port: int = setting(8750, "Its port; 0 takes any free one, named in daemon.json in the state folder.", minimum=0, maximum=65535)
    threads: int = setting(8, "Requests that are answered at the same time.", minimum=2, maximum=64)
    body_bytes_max: int = setting(
        2 * 1024 * 1024, "The largest request body that is read.", unit="bytes", minimum=4096, maximum=64 * 1024 * 1024
    )
    requests_per_s: float = setting(
        500.0, "How many requests a second one token may make; ten seconds' worth may come at once.", minimum=1, maximum=1_000_000
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        "Web pages of these origins may call the API for this account; others are registered by `carrel app add`.",
        check=_origins_problem,
    )


@dataclass(frozen=True)
class SignInSettings:
    """[device.sign_in]"""

    idle_min: int = setting(15, "A student's session ends when it was not used for so long.", unit="min", minimum=10, maximum=20)
    pin_days: int = setting(30, "How long a PIN is valid after it was set.", unit="days", minimum=1, maximum=90)
    single_student_without_pin: bool = setting(False, "The only student of a device may sign in without a PIN while none is set.")


@dataclass(frozen=True)
class SyncSettings:
    """[device.sync]"""

    debounce_ms: int = setting(
        300, "A round starts this long after the last local change, and 2 s after the first at most.",
        unit="ms", minimum=0, maximum=2_000, live=True,
    )  # fmt: skip
    poll_s: float = setting(
        30.0, "How often the server is asked for news when nothing happens here.", unit="s", minimum=1, maximum=3600, live=True
    )
    jitter: float = setting(
        0.2, "Each interval is longer by up to this share of it, so that a classroom does not ask all at once.",
        unit="of poll_s", minimum=0, maximum=1, live=True,
    )  # fmt: skip
    backoff_cap_s: float = setting(
        900.0, "The longest wait between rounds while the server cannot be reached.", unit="s", minimum=1, maximum=3600
    )


@dataclass(frozen=True)
class JobSettings:
    """[device.jobs]"""

    mastery_s: float = setting(
        10.0, "How often mastery is brought up to date behind the students' answers.", unit="s", minimum=1, maximum=3600, live=True
    )
    rescan_s: float = setting(
        60.0, "How often the inbox and this file are looked at even though no change was reported.",
        unit="s", minimum=1, maximum=3600, live=True,
    )  # fmt: skip
    heartbeat_s: float = setting(15.0, "How often the wall clock is held against the monotonic one.", unit="s", minimum=1, maximum=60)


@dataclass(frozen=True)
class InboxSettings:
    """[device.inbox]"""

    steady_ms: int = setting(
        1_000, "A file is read when its size and time have not changed for this long.", unit="ms", minimum=50, maximum=60_000, live=True
    )


@dataclass(frozen=True)
class ProvisioningSettings:
    """[device.provisioning]"""

    file: str = setting("", "The file that enrols this device without a person; empty: provisioning.toml in the state folder.")
    spread_s: float = setting(
        30.0,
        "A device waits for a part of this time before it first enrols so, so that all do not at once.",
        unit="s",
        minimum=0,
        maximum=3600,
    )


@dataclass(frozen=True)
class BackupSettings:
    """[device.backup]"""

    dir: str = setting("", "The folder of the backups; empty: backups in the state folder. Another disk is better.")
    every_h: int = setting(
        24, "How old the newest backup becomes before the next is made; 0: never by itself.", unit="h", minimum=0, maximum=720
    )
    keep: int = setting(3, "Backups that are kept, the newest; each is as large as the database.", minimum=1, maximum=100)
    keep_days: int = setting(0, "Older backups go when the next is made; 0: whatever their age.", unit="days", minimum=0, maximum=36_500)


@dataclass(frozen=True)
class LogSettings:
    """[device.log]"""

    level: str = setting("info", "The least severe lines that are written.", choices=LOG_LEVELS, live=True)
    format: str = setting(
        "text",
        "text: time level name message key=value; json: one object a line; journal: for systemd.",
        choices=("text", "json", "journal"),
    )


@dataclass(frozen=True)
class DeviceSettings:
    """[device], as written: an empty text stands for the place that follows from the others."""

    state_dir: str = setting("", "The folder of everything this daemon keeps; empty: the account's data folder.")
    database_path: str = setting("", f"The SQLite file; empty: {DATABASE_NAME} in the state folder. {DATABASE_VARIABLE} wins over it.")
    inbox_dir: str = setting("", "Content files (*.carrel-content) dropped here are loaded; empty: inbox in the state folder.")
    cloud_url: str = setting("", "The school's server, for `carrel enrol` without an address.", check=_cloud_problem)
    ca_file: str = setting("", "Certificates (PEM) of who issued the school server's; empty: those that this machine trusts.")
    api: ApiSettings = field(default_factory=ApiSettings)
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    sync: SyncSettings = field(default_factory=SyncSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    provisioning: ProvisioningSettings = field(default_factory=ProvisioningSettings)
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True)
class DeviceConfig:
    """The settings, and every path absolute. `source` is the file they came from, None when there was none."""

    source: Path | None
    settings: DeviceSettings
    state_dir: Path
    database_path: Path
    inbox_dir: Path

    @property
    def cloud_url(self) -> str:
        return self.settings.cloud_url

    @property
    def api(self) -> ApiSettings:
        return self.settings.api

    @property
    def sign_in(self) -> SignInSettings:
        return self.settings.sign_in

    @property
    def sync(self) -> SyncSettings:
        return self.settings.sync

    @property
    def jobs(self) -> JobSettings:
        return self.settings.jobs

    @property
    def inbox(self) -> InboxSettings:
        return self.settings.inbox

    @property
    def backup(self) -> BackupSettings:
        return self.settings.backup

    @property
    def provisioning(self) -> ProvisioningSettings:
        return self.settings.provisioning

    @property
    def log(self) -> LogSettings:
        return self.settings.log


def find_config(environ: Mapping[str, str]) -> Path | None:
    """The file to read when none is named: CARREL_CONFIG, else the account's, else the machine's, else None.

    A file that CARREL_CONFIG names is returned whether or not it is there: loading it then says so.
    """
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    from platformdirs import user_config_path  # here, because a daemon is always told its file

    places = (user_config_path("carrel") / CONFIG_NAME, SYSTEM_CONFIG)
    # Not Path.is_file: a home that belongs to another account, as that of whoever called `runuser`, would be an error.
    return next((path for path in places if os.path.isfile(path)), None)


def load_config(path: Path | None, environ: Mapping[str, str]) -> DeviceConfig:
    """The configuration from a file (None: defaults) and the environment. Raises InvalidConfig with every problem; creates nothing."""
    source = path.absolute() if path else None
    settings = load(DeviceSettings, section=SECTION, toml_path=source, environ=environ)
    state_dir = _absolute(settings.state_dir) if settings.state_dir else _user_data_path()
    database_path = _database_path(settings, state_dir, environ)
    inbox_dir = _absolute(settings.inbox_dir) if settings.inbox_dir else state_dir / INBOX_NAME
    if inbox_dir.resolve() == database_path.parent.resolve():
        # Reading files beside a SQLite database is how its locks get lost (docs/decisions/0003).
        problem = Problem("device.inbox_dir", "invalid", "must not be the folder of the database")
        raise InvalidConfig(str(source or "The environment"), [problem])
    return DeviceConfig(source, settings, state_dir, database_path, inbox_dir)


def find_state_dir(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The state folder, also when other settings are at fault: for commands that only look, above all just then."""
    text = environ.get(STATE_DIR_VARIABLE, "")
    if not text and path is not None:
        try:
            text = tomllib.loads(path.read_text("utf-8"))[SECTION]["state_dir"]
        except (OSError, ValueError, KeyError, TypeError):
            text = ""
    return _absolute(text) if text and isinstance(text, str) else _user_data_path()


def prepare_folders(config: DeviceConfig) -> None:
    """Makes the folders that are missing, for this account alone, and closes the state folder to others. Raises OperatorError."""
    for folder in (config.state_dir, config.database_path.parent, config.inbox_dir):
        try:
            make_private_folder(folder)
        except OSError as error:
            raise OperatorError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if sys.platform != "win32":
        _close_to_others(config.state_dir)


def _close_to_others(folder: Path) -> None:
    try:
        if folder.stat().st_mode & 0o077:
            os.chmod(folder, PRIVATE_FOLDER_MODE)
    except OSError as error:
        raise OperatorError(f"The folder {folder} must belong to the daemon's account alone: {error.strerror}.") from error


def _user_data_path() -> Path:
    from platformdirs import user_data_path  # here, because a service is told its state folder

    return user_data_path("carrel", appauthor=False)


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _database_path(settings: DeviceSettings, state_dir: Path, environ: Mapping[str, str]) -> Path:
    url = environ.get(DATABASE_VARIABLE, "")
    if not url:
        return _absolute(settings.database_path) if settings.database_path else state_dir / DATABASE_NAME
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":"):
        problem = Problem(DATABASE_VARIABLE, "invalid", "must be sqlite:////absolute/path or sqlite:///relative/path")
        raise InvalidConfig("The environment", [problem])
    return _absolute(path)
