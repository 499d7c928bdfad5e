"""New migration files: empty ones, and ones that are drafted from the difference between the models and the files there are.

A drafted file is written only after it was run up, down and up again in a scratch database, and after the schema it leads to was found to be
that of the models.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from domain.errors import OperatorError, SchemaError
from migrations.draft import NEVER_SEEN, drafts
from migrations.draft.steps import Draft
from migrations.files import Kind, MigrationFile, files_in
from migrations.history import HEAD
from migrations.runner import Migrations, open_migrations
from migrations.schema.description import Schema, differences
from migrations.schema.models import ModelSet
from migrations.scratch import Scratch, schema_of_models
from migrations.template import empty_file, filled_file

SLUG_LENGTH_MAX = 60
# Statements for which a file is not one transaction.
_PIECE = re.compile(r"\A(CREATE|DROP)[ A-Z]* INDEX |\AALTER TABLE \S+ (ADD|DROP|VALIDATE) CONSTRAINT ")


@dataclass(frozen=True)
class Created:
    """A file that was written (`path` None: there was nothing to write), and what a person should know of it."""

    path: Path | None
    statements: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewFile:
    """Where a new file goes, and the files before it."""

    folder: Path
    text: str
    before: tuple[MigrationFile, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The next number, and the words of the text."""
        number = int(self.before[-1].name[:4]) + 1 if self.before else 1
        return f"{number:04}_{_slug(self.text)}"

    def write(self, source: str) -> Path:
        """Raises OperatorError when the folder cannot be written to."""
        ast.parse(source)
        path = self.folder / f"{self.name}.py"
        try:
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(source)
        except OSError as error:
            raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error
        return path


def new_file(folder: Path, text: str) -> NewFile:
    """Raises SchemaError for a text without words, and for a folder whose files are not in order."""
    if not _slug(text):
        raise SchemaError("A migration needs words that say what it does.")
    has_files = any(folder.glob("[0-9]*.py"))
    return NewFile(folder, text, files_in(folder) if has_files else ())


def create_empty(folder: Path, text: str) -> Created:
    """Writes a file for a person to fill. Raises as `new_file` and `NewFile.write`."""
    new = new_file(folder, text)
    return Created(new.write(empty_file(text)))


def create_auto(kind: Kind, folder: Path, text: str, models: ModelSet, scratch: Scratch) -> Created:
    """Writes a file that brings a database of the files in `folder` to the models, if there is anything to bring.

    Raises SchemaError with every difference that has to be written by hand, and when the file does not do what it should; then nothing
    is written. Raises OperatorError when the models or the scratch database are not usable.
    """
    new = new_file(folder, text)
    want = schema_of_models(kind, models, scratch)
    with scratch() as url:
        have = _migrate(kind, url, new.before)
        up, down = drafts(kind, have, want)
        if not differences(want, have):
            return Created(None)
        _demand_drafted(up)
        irreversible = "; ".join(down.by_hand) or None
        source = _source(kind, text, up, down, irreversible)
        candidate = MigrationFile(new.name, source.encode())
        _try_out(kind, url, (*new.before, candidate), have, want, reversible=irreversible is None)
    return Created(new.write(source), tuple(up.statements), tuple(_warnings(up, irreversible)))


def _source(kind: Kind, text: str, up: Draft, down: Draft, irreversible: str | None) -> str:
    # For PostgreSQL a percent sign is written twice, since psycopg2 looks for parameters.
    statements = [[s.replace("%", "%%") if kind == "cloud" else s for s in d.statements] for d in (up, down)]
    return filled_file(text, *statements, piecewise=up.piecewise, irreversible=irreversible, accepted=up.accepted)


def _warnings(up: Draft, irreversible: str | None) -> list[str]:
    found = [f"{warning[0].upper()}{warning[1:]}." for warning in up.warnings]
    if irreversible:
        found.append(f"The file has no way back: {irreversible}.")
    if up.piecewise and not all(_PIECE.search(statement) for statement in up.statements):
        found.append(
            "The file is not one transaction, because of its indexes or constraints: a file of their own would leave the rest in one."
        )
    return [*found, *NEVER_SEEN]


def _demand_drafted(up: Draft) -> None:
    if up.by_hand:
        lines = "".join(f"\n  {sentence}" for sentence in up.by_hand)
        rest = "".join(f"\n  {statement}" for statement in up.statements)
        also = f"\nThe rest would be:{rest}" if rest else ""
        raise SchemaError(f"This has to be written by hand, in a file made by `create` without --auto:{lines}{also}")


def _migrate(kind: Kind, url: str, files: tuple[MigrationFile, ...]) -> Schema:
    """The schema after all these files."""
    if not files:
        return Schema()
    with _opened(kind, url, files) as migrations:
        migrations.upgrade()
        return migrations.schema()


def _try_out(kind: Kind, url: str, files: tuple[MigrationFile, ...], before: Schema, after: Schema, *, reversible: bool) -> None:
    """Runs the last file up, down and up again, and looks at the schema each time. Raises SchemaError when it is not as it should be."""
    with _opened(kind, url, files) as migrations:
        _move(migrations, "up", after)
        if reversible:
            _move(migrations, "down", before)
            _move(migrations, "up", after)


def _move(migrations: Migrations, direction: str, expected: Schema) -> None:
    try:
        if direction == "up":
            migrations.upgrade(HEAD)
        else:
            migrations.downgrade("-1")
    except SchemaError as error:
        raise SchemaError(f"No file was written, since the draft fails on the way {direction}: {error.message}") from error
    if wrong := differences(expected, migrations.schema()):
        lines = "".join(f"\n  {difference}" for difference in wrong)
        raise SchemaError(f"No file was written, since the draft does not lead to the models on the way {direction}:{lines}")


@contextmanager
def _opened(kind: Kind, url: str, files: tuple[MigrationFile, ...]) -> Iterator[Migrations]:
    """The migrations of a scratch database by these files, which lie in a folder only for so long."""
    with tempfile.TemporaryDirectory(prefix="carrel-scratch-") as folder:
        for file in files:
            (Path(folder) / f"{file.name}.py").write_bytes(file.source)
        with open_migrations(kind, url, folder=Path(folder)) as migrations:
            yield migrations


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower())[:SLUG_LENGTH_MAX].strip("_")
