"""An enrolment that the server has granted, on its way into this device: a file that says so until everything else does.

A code is used up the moment the server answers, while the device has to write two things, its token into a file and its identity into the
database. The answer is therefore put down whole, first of all. Whatever ends the process afterwards, the next start finishes what was begun.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from daemon.durable_file import replace_durably
from daemon.identity.keys import DeviceKeys
from domain.errors import OperatorError
from domain.wire import EnrolAnswer

FILE_NAME = "device.enrolling"
READ_BYTES_MAX = 64 * 1024


class Adoption(msgspec.Struct, frozen=True):
    """What the server answered, and at which address; the device's keys for bundles, if it has any."""

    answer: EnrolAnswer
    cloud_url: str
    keys: DeviceKeys | None = None


class Adoptions(NamedTuple):
    """The file in one state folder. It holds the token and keys, and only its owner can read it."""

    folder: Path

    def begin(self, adoption: Adoption) -> None:
        """Puts the answer down, on the disk before this returns. Raises OperatorError when that cannot be done."""
        try:
            replace_durably(self.folder / FILE_NAME, msgspec.json.encode(adoption))
        except OSError as error:
            raise OperatorError(f"The enrolment cannot be written to {self.folder}: {error.strerror}. Ask for a new code.") from error

    def begun(self) -> Adoption | None:
        """The answer of an enrolment that has not ended; None when there is none that can be read."""
        try:
            with (self.folder / FILE_NAME).open("rb") as file:
                return msgspec.json.decode(file.read(READ_BYTES_MAX), type=Adoption)
        except (OSError, msgspec.MsgspecError):
            return None

    def end(self) -> None:
        """Everything is in its place."""
        (self.folder / FILE_NAME).unlink(missing_ok=True)
