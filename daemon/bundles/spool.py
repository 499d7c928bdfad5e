"""Bodies of bundles between a command and the running daemon: private files in the state folder, which both may read.

They are too large for the localhost API. The daemon packs and unpacks, the command seals and opens: so no daemon ever holds the library that does.
One body lies there at a time in either direction; the next replaces one that was left behind.
"""

from __future__ import annotations

from pathlib import Path

from daemon.bundles.exchange import Collected, DeviceBundles, Parties, Taken
from daemon.durable_file import replace_durably
from domain.bodies import compress, decompress
from domain.bundle import FILE_BYTES_MAX, PLAIN_BYTES_MAX
from domain.errors import BodyTooLarge, MalformedJson, NotFound, OperatorError

OUTGOING, INCOMING = "bundle.outgoing", "bundle.incoming"
FILE_NAMES = (OUTGOING, INCOMING)


class SpooledBundles:
    """The bundles of a device whose bodies lie in its state folder."""

    def __init__(self, bundles: DeviceBundles, folder: Path) -> None:
        self._bundles, self._folder = bundles, folder

    def parties(self) -> Parties:
        """Raises NotEnrolled."""
        return self._bundles.parties()

    def export(self) -> Collected:
        """Lays the body of a bundle down. Raises NotEnrolled, OperatorError."""
        collected = self._bundles.collect()
        lay_down(self._folder, OUTGOING, collected.body)
        return collected

    def take(self) -> Taken:
        """Takes the body in that a command has laid down. Raises what `DeviceBundles.take` raises, NotFound and OperatorError."""
        return self._bundles.take(pick_up(self._folder, INCOMING))


def lay_down(folder: Path, name: str, body: bytes) -> None:
    """Raises OperatorError when the file cannot be written."""
    try:
        replace_durably(folder / name, compress(body))
    except OSError as error:
        raise OperatorError(f"{folder / name} cannot be written: {error.strerror}.") from error


def pick_up(folder: Path, name: str) -> bytes:
    """The body, whose file is gone then. Raises NotFound when there is none, OperatorError when it cannot be read."""
    path = folder / name
    try:
        with path.open("rb") as file:
            packed = file.read(FILE_BYTES_MAX)
        path.unlink()
        return decompress(packed, "zstd", PLAIN_BYTES_MAX)
    except FileNotFoundError as error:
        raise NotFound("There is no bundle here, or another command has taken it: try again.") from error
    except (OSError, BodyTooLarge, MalformedJson) as error:
        raise OperatorError(f"{path} cannot be read: try again.") from error
