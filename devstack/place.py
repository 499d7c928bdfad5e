"""Where a stack lives: its folder, the addresses of its two servers, and the environment of its processes."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cloud_api.config import DATABASE_URL_VARIABLE
from cloud_api.config import load_config as load_cloud_config
from cloud_api.embedded.account import make_folder
from daemon.config import CONFIG_VARIABLE, DATABASE_VARIABLE
from daemon.config import load_config as load_device_config
from domain.errors import OperatorError

# What servers listen on to be reached from everywhere, and where they are reached from here.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
# The folder must let through the account that runs PostgreSQL when root starts it; what is private in it is closed by its owner.
STATE_FOLDER_MODE = 0o711
DEVICE_FOLDER = "device"
# Who was erased; what was withdrawn is noted beside it.
REGISTER = "erasures.jsonl"


@dataclass(frozen=True)
class Address:
    """Where one server listens, and the setting that says so."""

    server: str
    host: str
    port: int
    variable: str
    key: str

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def with_port(self) -> Address:
        """The same with a port of its own where any free one will do. Between this and the server's start another program may take it."""
        if self.port:
            return self
        with self._bound() as listener:
            return replace(self, port=int(listener.getsockname()[1]))

    def demand_free(self) -> None:
        """Raises OperatorError with what to do when the server could not listen there."""
        try:
            self._bound().close()
        except OSError as error:
            why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise OperatorError(
                f"Port {self.port} of {self.host}, for {self.server}, {why}. If that is an earlier `make run`, stop it; or choose another port:"
                f" {self.variable}={self.port + 10} make run, or {self.key} in config.toml."
            ) from error

    def _bound(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        try:
            # As servers do: connections of an earlier one that are still being wound up are no obstacle.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
        except OSError:
            listener.close()
            raise
        return listener


@dataclass(frozen=True)
class Place:
    """One stack's place. `environ` is what its processes are started with; `database_url` is None where PostgreSQL has to be started."""

    state_dir: Path
    environ: Mapping[str, str]
    cloud: Address
    device: Address
    device_database: Path
    database_url: str | None

    @classmethod
    def choose(cls, state_dir: Path, config: Path, environ: Mapping[str, str]) -> Place:
        """Reads the settings of both sides and makes the folder. Paths of the device's settings are not followed: all is in `state_dir`.

        Raises InvalidConfig, and OperatorError when a port is taken or the folder cannot be made.
        """
        own = {
            CONFIG_VARIABLE: str(config),
            "CARREL_DEVICE_STATE_DIR": str(state_dir / DEVICE_FOLDER),
            "CARREL_DEVICE_DATABASE_PATH": "",
            "CARREL_DEVICE_INBOX_DIR": "",
            "CARREL_CLOUD_ERASURES_FILE": str(state_dir / REGISTER),
        }
        environ = {**environ, **own}
        device_config, server = load_device_config(config, environ), load_cloud_config(config, environ).server
        api = device_config.api
        cloud = Address("the cloud API", server.host, server.port, "CARREL_CLOUD_SERVER_PORT", "[cloud.server] port").with_port()
        device = Address("the daemon", api.host, api.port, "CARREL_DEVICE_API_PORT", "[device.api] port").with_port()
        for address in (cloud, device):
            address.demand_free()
            environ[address.variable] = str(address.port)
        # Absolute, because the processes do not share this one's working folder.
        environ[DATABASE_VARIABLE] = f"sqlite:///{device_config.database_path}"
        make_state_folder(state_dir)
        url = environ.get(DATABASE_URL_VARIABLE) or None
        return cls(state_dir, environ, cloud, device, device_config.database_path, url)

    @property
    def device_state_dir(self) -> Path:
        """The device's state folder, with the tokens of this account."""
        return self.state_dir / DEVICE_FOLDER

    def log(self, name: str) -> Path:
        """The file of a process's output."""
        return self.state_dir / "logs" / f"{name}.log"


def make_state_folder(state_dir: Path) -> None:
    """Raises OperatorError when it cannot be made."""
    try:
        make_folder(state_dir, STATE_FOLDER_MODE)
        (state_dir / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"The folder {state_dir} cannot be made: {error.strerror}.") from error
