"""The next migrations, rehearsed: files that change question_attempts as the house rules of docs/migrations.md want it, applied after those that
are shipped. The tables of the first files are made empty; only files after them meet a million rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from migrations.files import Kind, shipped_files
from migrations.template import filled_file


class Rehearsed(NamedTuple):
    """A file of one statement. `piecewise`: not in a transaction."""

    words: str
    statement: str
    piecewise: bool = False


_COLUMN = Rehearsed("column with default", "ALTER TABLE question_attempts ADD COLUMN rehearsed integer NOT NULL DEFAULT 0")
_INDEX = "INDEX {} IF NOT EXISTS idx_rehearsed ON question_attempts (question_id)"
NEXT_FILES: dict[Kind, tuple[Rehearsed, ...]] = {
    "device": (_COLUMN, Rehearsed("index", f"CREATE {_INDEX.format('')}")),
    "cloud": (
        _COLUMN,
        Rehearsed("check not valid", "ALTER TABLE question_attempts ADD CONSTRAINT rehearsed_sign CHECK (rehearsed >= 0) NOT VALID"),
        Rehearsed("check validated", "ALTER TABLE question_attempts VALIDATE CONSTRAINT rehearsed_sign"),
        Rehearsed("index concurrently", f"CREATE {_INDEX.format('CONCURRENTLY')}", piecewise=True),
    ),
}


@contextmanager
def shipped_and_rehearsed(kind: Kind) -> Iterator[Path]:
    """A folder of the shipped files and, numbered on, the rehearsed ones."""
    with TemporaryDirectory(prefix="carrel-bench-") as name:
        folder = Path(name)
        shipped = shipped_files(kind)
        for file in shipped:
            (folder / f"{file.name}.py").write_bytes(file.source)
        for number, rehearsed in enumerate(NEXT_FILES[kind], int(shipped[-1].name[:4]) + 1):
            text = filled_file(
                rehearsed.words, [rehearsed.statement], [], piecewise=rehearsed.piecewise, irreversible="a rehearsal", accepted={}
            )
            (folder / f"{number:04}_{rehearsed.words.replace(' ', '_')}.py").write_text(text)
        yield folder
