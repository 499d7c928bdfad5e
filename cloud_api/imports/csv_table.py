"""Reading CSV files that people made: every problem is noted with file and line, instead of stopping at the first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from domain.errors import InvalidInput, Problem

FILE_BYTES_MAX = 64 * 1024 * 1024
ROWS_MAX = 200_000
CELL_CHARACTERS_MAX = 128 * 1024
# As many problems are listed; a file in the wrong format has one on every line.
PROBLEMS_MAX = 200
# How exports of other systems write "nothing". Not "null" or "na": people bear these names.
_NOTHING = frozenset({"", "n/a"})
LIST_SEPARATOR = ";"
# What spreadsheets put between columns instead of commas.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}


class Problems:
    """The problems found so far."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, where: str, code: str, message: str) -> None:
        """`where` is `file:line`; the message must not repeat a value."""
        self._found.append(Problem(where, code, message))

    def raise_if_any(self) -> None:
        """Raises InvalidInput with the problems, file by file in the order of their lines, at most PROBLEMS_MAX of them listed."""
        if not self._found:
            return
        count = len(self._found)
        listed = sorted(self._found, key=_place)[:PROBLEMS_MAX]
        if count > PROBLEMS_MAX:
            listed.append(Problem(listed[-1].path, "more", f"and {count - PROBLEMS_MAX} more problems"))
        raise InvalidInput(listed, f"{count} {'problem' if count == 1 else 'problems'} found; nothing was imported.")


@dataclass(frozen=True, slots=True)
class Line:
    """One record: where it begins (`topics.csv:17`), and its cells without surrounding space; what stands for nothing is empty."""

    where: str
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def items(self, column: str) -> list[str]:
        """The items of a cell that holds a list, each once."""
        return list(dict.fromkeys(item.strip() for item in self[column].split(LIST_SEPARATOR) if item.strip()))


def _place(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.path.partition(":")
    return file, int(line or 0)


def read_lines(path: Path, required: Sequence[str], optional: Sequence[str], problems: Problems) -> list[Line]:
    """The records of a UTF-8 CSV file with a heading line. Columns that are not named here are never kept.

    Notes a problem, and returns what can still be read, for a file that cannot be read, a missing column, a record of the wrong length and
    an empty cell where a value is required.
    """
    text = _read_text(path, problems)
    if text is None:
        return []
    wanted = {*required, *optional}
    lines: list[Line] = []
    heading: list[str] | None = None
    for number, record in _records(text, path.name, problems):
        where = f"{path.name}:{number}"
        if heading is None:
            heading = [cell.strip().lower() for cell in record]
            if not _check_heading(heading, required, where, problems):
                return []
        elif len(record) != len(heading):
            problems.add(where, "wrong_length", f"has {len(record)} cells, the heading {len(heading)}")
        else:
            cells = {name: _cell(value) for name, value in zip(heading, record, strict=True) if name in wanted}
            for name in required:
                if not cells[name]:
                    problems.add(where, "missing_value", f"{name} must be given")
            lines.append(Line(where, cells))
    if heading is None:
        problems.add(f"{path.name}:1", "empty", "is empty: a heading line is needed")
    return lines


def _read_text(path: Path, problems: Problems) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.add(path.name, "unreadable", f"cannot be read ({error.strerror})")
        return None
    if len(data) > FILE_BYTES_MAX:
        problems.add(path.name, "too_large", f"is larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(f"{path.name}:{line}", "not_utf8", "is not UTF-8 text: save the file as UTF-8")
        return None


def _records(text: str, name: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of every record that is not blank."""
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    begins, count = 1, 0
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                count += 1
                if count > ROWS_MAX:
                    problems.add(f"{name}:{begins}", "too_many_rows", f"has more than {ROWS_MAX} rows")
                    return
                yield begins, record
            begins = reader.line_num + 1
    except csv.Error as error:
        problems.add(f"{name}:{begins}", "not_csv", f"cannot be read as CSV: {error}")


def _check_heading(heading: list[str], required: Sequence[str], where: str, problems: Problems) -> bool:
    missing = [name for name in required if name not in heading]
    if missing:
        otherwise = next((name for mark, name in _OTHER_SEPARATORS.items() if len(heading) == 1 and mark in heading[0]), None)
        why = f": its columns are separated by {otherwise}, save the file with commas" if otherwise else ""
        problems.add(where, "missing_column", f"the heading lacks {', '.join(missing)}{why}")
    if len(set(heading)) != len(heading):
        problems.add(where, "duplicate_column", "a column is named twice")
    return not missing and len(set(heading)) == len(heading)


def _cell(value: str) -> str:
    plain = value.strip()
    return "" if plain.lower() in _NOTHING else plain
