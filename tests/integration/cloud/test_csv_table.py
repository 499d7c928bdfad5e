"""CSV files that people made."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_api.imports.csv_table import Problems, read_lines
from domain.errors import InvalidInput


@pytest.mark.parametrize("mark, name", [(";", "semicolons"), ("\t", "tabs")])
def test_a_file_that_a_spreadsheet_saved_without_commas_is_told_so(tmp_path: Path, mark: str, name: str) -> None:
    (tmp_path / "roster.csv").write_text(f"username{mark}role\nada{mark}student\n")
    problems = Problems()
    assert read_lines(tmp_path / "roster.csv", ("username", "role"), (), problems) == []
    with pytest.raises(InvalidInput) as raised:
        problems.raise_if_any()
    [problem] = raised.value.problems
    assert problem.message == f"the heading lacks username, role: its columns are separated by {name}, save the file with commas"
