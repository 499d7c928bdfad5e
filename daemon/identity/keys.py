"""This device's keys for bundles: made when it is enrolled, kept in a file beside its token, readable by the daemon's account alone.

The library that works out their public halves takes 9 MB, which a daemon would keep for ever after. So keys are made by a process that ends:
this module, run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from daemon.durable_file import replace_durably
from daemon.process import own_modules
from daemon.process.state_folder import not_ours
from domain.errors import OperatorError
from domain.sealing import KEY_BYTES, PublicKeys, SecretKeys, new_keys, public_keys

KEYS_FILE = "device.keys"
READ_BYTES_MAX = 4 * 1024
# Longer than a slow machine takes to start Python and load the library.
MAKE_MAX_S = 60


class DeviceKeys(msgspec.Struct, frozen=True):
    """Both halves of the device's keys, in hex: what is written into the file."""

    sign: str
    seal: str
    public_verify: str
    public_seal: str

    @property
    def secret(self) -> SecretKeys:
        return SecretKeys(bytes.fromhex(self.sign), bytes.fromhex(self.seal))


class ServerKeys(NamedTuple):
    """The public halves of the server's keys as the database has them, in hex; None for a device that was enrolled without."""

    verify: str | None
    seal: str | None

    def public(self) -> PublicKeys:
        """Raises OperatorError where there are none."""
        if not self.verify or not self.seal:
            raise OperatorError("This device was enrolled without keys for bundles: enrol it again.")
        return PublicKeys(bytes.fromhex(self.verify), bytes.fromhex(self.seal))


def make_keys() -> DeviceKeys:
    """Fresh keys, made by another process. Raises OperatorError when it fails."""
    try:
        done = subprocess.run(
            own_modules.command("daemon.identity.keys"), stdout=subprocess.PIPE, env=own_modules.environ(), timeout=MAKE_MAX_S, check=True
        )
        return msgspec.json.decode(done.stdout, type=DeviceKeys)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        raise OperatorError("Keys for this device cannot be made: see what stands above, and install Carrel again.") from error


def keep_keys(folder: Path, keys: DeviceKeys | None) -> None:
    """Puts the keys beside the token; without any, those of an enrolment before go. Raises OSError."""
    if keys is None:
        (folder / KEYS_FILE).unlink(missing_ok=True)
    else:
        replace_durably(folder / KEYS_FILE, msgspec.json.encode(keys))


def read_keys(folder: Path) -> SecretKeys:
    """The secret halves. Raises OperatorError when there are none that can be read."""
    try:
        with (folder / KEYS_FILE).open("rb") as file:
            keys = msgspec.json.decode(file.read(READ_BYTES_MAX), type=DeviceKeys).secret
    except FileNotFoundError as error:
        raise OperatorError("This device has no keys for bundles: enrol it again.") from error
    except PermissionError as error:
        raise not_ours(folder) from error
    except (OSError, ValueError) as error:
        raise OperatorError(f"{folder / KEYS_FILE} cannot be read: enrol this device again.") from error
    if set(map(len, keys)) != {KEY_BYTES}:
        raise OperatorError(f"{folder / KEYS_FILE} is damaged: enrol this device again.")
    return keys


def fresh_keys() -> DeviceKeys:
    """Keys made in this process, which has the library in its memory from then on."""
    secret = new_keys()
    public = public_keys(secret)
    return DeviceKeys(secret.sign.hex(), secret.seal.hex(), public.verify.hex(), public.seal.hex())


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(fresh_keys()))
