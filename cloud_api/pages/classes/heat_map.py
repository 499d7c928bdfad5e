"""The heat map as a page shows it: a strip of cells for each student, in the order of need, and how the class stands in each column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cloud_api.analytics.rows import DataAge, Overview, StudentRow
from cloud_api.pages.classes import words
from cloud_api.pages.classes.columns import Column, Columns, columns_of
from cloud_api.pages.classes.looks import Look, Order
from domain.counted import counted
from domain.learning.analytics.heat_map import NOT_STARTED, Cell
from domain.learning.levels import Level
from webpages.charts import StripCell

# From so many columns on cells are too narrow for figures.
FIGURES_COLUMNS_MAX = 24
# Of a score with four decimals in binary: 0.29 is a little less than 29 hundredths.
ROUNDING = 1e-6
# Fewer columns have wider cells, within what reads well (on the grid of charts.strip); so wide is the whole.
CELL_WIDTH_MIN, CELL_WIDTH_MAX, STRIP_WIDTH = 34, 160, 760
# A character of a head, with something to spare; fewer characters than that of a title say nothing.
HEAD_CHARACTER_WIDTH, HEAD_TITLE_MIN = 8, 6
_BELOW = (Level.ATTEMPTED, Level.FAMILIAR)
_SOUND = (*_BELOW, Level.PROFICIENT, Level.MASTERED)


@dataclass(frozen=True, slots=True)
class Line:
    """A student: cells in the order of the columns, and how many columns are below proficient."""

    student_id: str
    name: str
    age: DataAge
    cells: Sequence[Cell]
    below: int

    @property
    def levels(self) -> str:
        """The whole line in words."""
        return words.counts(cell.level for cell in self.cells)


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A column with its number on the page, and how many students are at each level, best first."""

    number: int
    column: Column
    students: Mapping[Level, int]

    @property
    def levels(self) -> str:
        """The class in this column, in words."""
        return words.counts(level for level, n in self.students.items() for _ in range(n))


@dataclass(frozen=True, slots=True)
class HeatMap:
    """What one look at the heat map shows. `dense`: too many columns for figures in the cells. `parts`: the topics above them (Columns)."""

    kind: str
    path: Sequence[Column]
    columns: Sequence[ColumnView]
    lines: Sequence[Line]
    parts: Sequence[tuple[str, int]]

    @property
    def word(self) -> str:
        """What one column is."""
        return "topic" if self.kind == "topics" else "concept"

    @property
    def below(self) -> int:
        """How many students have a column below proficient."""
        return sum(line.below > 0 for line in self.lines)

    @property
    def dense(self) -> bool:
        return len(self.columns) > FIGURES_COLUMNS_MAX

    @property
    def cell_width(self) -> int:
        """For charts.strip."""
        return min(CELL_WIDTH_MAX, max(CELL_WIDTH_MIN, STRIP_WIDTH // len(self.columns)))

    @property
    def heads(self) -> list[tuple[str, str]]:
        """For charts.strip_head: the titles for which there is room; else numbers, and as much of the titles as fits beside them."""
        room = self.cell_width // HEAD_CHARACTER_WIDTH
        return [(_head(view, room), view.column.title) for view in self.columns]

    def strip(self, line: Line) -> list[StripCell]:
        """The cells of a line for charts.strip."""
        return [
            StripCell(words.STEPS[cell.level], figure(cell), f"{view.number} {view.column.title}: {in_words(cell)}")
            for view, cell in zip(self.columns, line.cells, strict=True)
        ]

    def steps(self, line: Line) -> list[str]:
        """The cells of a line for charts.dense_strip."""
        return [words.STEPS[cell.level] for cell in line.cells]

    def figures(self, line: Line) -> str:
        """What the page's script says of each cell: step, score and answers, as `3.82.14 few..2 none`."""
        return " ".join(
            f"{words.STEPS[cell.level]}.{figure(cell)}.{cell.answers}" if cell.answers else words.STEPS[cell.level] for cell in line.cells
        )

    def told(self, cell: Cell) -> str:
        """A cell of the table view: score and answers, answers alone, or a dash."""
        shown = figure(cell)
        return f"{shown} ({cell.answers})" if shown else f"({cell.answers})" if cell.answers else "–"


def heat_map(overview: Overview, look: Look) -> HeatMap:
    """The map for this look. Raises NotFound."""
    columns = columns_of(overview, look.topic, concepts=look.concepts)
    lines = sorted((_line(row, columns) for row in overview.students), key=_KEYS[look.order])
    views = [
        ColumnView(number + 1, column, Counter(line.cells[number].level for line in lines)) for number, column in enumerate(columns.shown)
    ]
    return HeatMap(columns.kind, columns.path, views, lines, columns.parts)


def _head(view: ColumnView, room: int) -> str:
    number, title = str(view.number), view.column.title
    if len(title) <= room:
        return title
    left = room - len(number) - 1
    if left < HEAD_TITLE_MIN:
        return number
    return f"{number} {title[: left - 1].rstrip()}…"


def figure(cell: Cell) -> str:
    """The score of a cell out of 100, which stands in it where there is enough evidence. Rounded down: 59.8 is not yet the 60 of the next level."""
    return str(int(cell.score * 100 + ROUNDING)) if cell.score is not None and cell.level in _SOUND else ""


def in_words(cell: Cell) -> str:
    """A cell in words: `82 of 100, proficient, 14 answers`."""
    answers = counted(cell.answers, "answer")
    if cell.level in _SOUND and cell.score is not None:
        return f"{figure(cell)} of 100, {words.LEVELS[cell.level]}, {answers}"
    return words.LEVELS[cell.level] if not cell.answers else f"{words.LEVELS[cell.level]} ({cell.answers})"


def _line(row: StudentRow, columns: Columns) -> Line:
    known = columns.cells(row)
    cells = [known.get(column.id, NOT_STARTED) for column in columns.shown]
    return Line(row.student_id, row.display_name, row.data_age, cells, sum(cell.level in _BELOW for cell in cells))


def _mean(line: Line) -> float:
    sound = [cell.score or 0.0 for cell in line.cells if cell.level in _SOUND]
    return sum(sound) / len(sound) if sound else 1.0


# By need: most columns below proficient first, then the lowest scores. Sorting keeps the order of names among equals.
_KEYS: Mapping[Order, Callable[[Line], tuple[float, ...]]] = {
    Order.NEED: lambda line: (-line.below, _mean(line)),
    Order.NAME: lambda line: (),
    Order.AGE: lambda line: (line.age.last_sync_ms or 0,),
}
