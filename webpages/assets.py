"""The files that pages load: stylesheet, scripts, the icon. A fixed list, so that an address never becomes a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Assets:
    """Files of one folder by name, each read once."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._folder = folder
        self._held: dict[str, bytes] = {}

    def get(self, name: str) -> bytes:
        """The bytes of a file. Raises KeyError for a name that is not in the list."""
        if name not in self.names:
            raise KeyError(name)
        if name not in self._held:
            self._held[name] = (self._folder / name).read_bytes()
        return self._held[name]


def media_of(name: str) -> str:
    """The media type of a file by its ending. The files are UTF-8, and in ASCII where a reader might not know."""
    return _MEDIA[Path(name).suffix]


# What every page loads.
COMMON = Assets(Path(__file__).parent / "static", ("carrel.css", "live.js", "icon.svg"))
