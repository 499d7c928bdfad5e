"""The migration files there are, read through importlib.resources, so that an installed package has them too.

A migration file is `NNNN_words.py` and holds plain functions that declare, and never run, what is to be done:

    def migrate(migrator, database, *, fake=False): ...     # required; calls migrator.sql(...) and migrator.run(...)
    def rollback(migrator, database, *, fake=False): ...    # without it the file cannot be taken back
    ATOMIC = False         # optional: run the operations one by one, outside a transaction (CREATE INDEX CONCURRENTLY)
    IRREVERSIBLE = "why"   # optional: refuse to take it back, with this reason

A file that is not atomic must be able to run again after a part of it was done (IF NOT EXISTS).
"""

from __future__ import annotations

import hashlib
import importlib.resources
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Literal

from domain.errors import SchemaError

Kind = Literal["device", "cloud"]

_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.py\Z")
_CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class MigrationFile:
    """One migration file: its name without `.py`, and its bytes."""

    name: str
    source: bytes

    @property
    def checksum(self) -> str:
        """BLAKE2b of the bytes, 32 hex digits; the history keeps it to notice a file edited after it was applied."""
        return hashlib.blake2b(self.source, digest_size=_CHECKSUM_BYTES).hexdigest()


def shipped_files(kind: Kind) -> tuple[MigrationFile, ...]:
    """The files of this version for one kind of database, in the order in which they apply. Raises SchemaError as `files_in` does."""
    return files_in(importlib.resources.files(f"migrations.{kind}"))


def files_in(folder: Traversable) -> tuple[MigrationFile, ...]:
    """The migration files of a folder, in the order in which they apply.

    Raises SchemaError when the folder is missing or empty, holds a Python file whose name is not a migration's, or uses a
    number twice: each of these would otherwise silently migrate to something else than was meant.
    """
    if not folder.is_dir():
        raise SchemaError(f"The folder of migration files {folder} does not exist: the installation is incomplete.")
    files = tuple(sorted(_read(folder), key=lambda file: file.name))
    if not files:
        raise SchemaError(f"There is no migration file in {folder}: the installation is incomplete.")
    for earlier, later in itertools.pairwise(files):
        if earlier.name[:4] == later.name[:4]:
            raise SchemaError(f"Two migration files have the same number: {earlier.name} and {later.name}.")
    return files


def _read(folder: Traversable) -> Iterator[MigrationFile]:
    for entry in folder.iterdir():
        if entry.name == "__init__.py" or not entry.name.endswith(".py"):
            continue
        if not _NAME.match(entry.name):
            raise SchemaError(f"{entry.name} is not a name of a migration file: four digits, an underscore, lowercase words.")
        yield MigrationFile(entry.name.removesuffix(".py"), entry.read_bytes())
