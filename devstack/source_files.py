"""Which source files of the project have changed since one last looked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# What a running server has read at its start.
SUFFIXES = (".py", ".sql", ".html", ".css", ".js", ".svg")


class SourceFiles:
    """The source files below `root/PACKAGE`. Looking takes some milliseconds for a thousand files, so that nothing has to be watched."""

    def __init__(self, root: Path, packages: tuple[str, ...]) -> None:
        self._root = root
        self._packages = packages
        self._seen = self._look()

    def changed(self) -> frozenset[str]:
        """The packages in which a file was written, made or deleted since the last call, or since this object was made."""
        before, self._seen = self._seen, self._look()
        return frozenset(package for package in self._packages if before[package] != self._seen[package])

    def _look(self) -> dict[str, dict[str, int]]:
        return {package: dict(_written(self._root / package)) for package in self._packages}


def _written(folder: Path) -> Iterator[tuple[str, int]]:
    """Source files, and when each was last written (ns)."""
    for inside, _folders, names in os.walk(folder):
        for name in names:
            if name.endswith(SUFFIXES):
                path = os.path.join(inside, name)
                try:
                    yield path, os.stat(path).st_mtime_ns
                except FileNotFoundError:  # an editor's, gone again
                    continue
