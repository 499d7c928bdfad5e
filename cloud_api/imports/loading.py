"""Imports of a course and of a roster: everything is read and judged first, then written in one transaction, or not at all.

Rows are found again by their external id, so that an import may be repeated: what is the same stays untouched and takes no feed number.
What has vanished from the files is retired only on demand, and only within what the files speak of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from cloud_api import audit
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.imports.course_files import CourseFiles, read_course
from cloud_api.imports.course_plan import plan_course
from cloud_api.imports.csv_table import Problems
from cloud_api.imports.edit import Counts, Edit
from cloud_api.imports.roster_file import read_roster
from cloud_api.imports.roster_plan import plan_roster
from cloud_api.publication import Progress, lock_for_editing
from domain.clock import Clock
from domain.errors import Conflict
from domain.ids import IdSource


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import changed, or with `dry_run` would change: counts by table, and the feed numbers taken (None: none)."""

    tables: dict[str, Counts]
    feed_first: int | None
    feed_last: int | None
    dry_run: bool

    @property
    def changes(self) -> int:
        """Rows created, changed, retired and deleted."""
        return sum(counts.created + counts.changed + counts.retired for counts in self.tables.values())


@dataclass(frozen=True, slots=True)
class Importer:
    """Imports into one school. `progress` is told while rows are written; with `many_leave` a roster may lack more than half of the school."""

    database: CloudDatabase
    clock: Clock
    ids: IdSource
    school_id: str
    dry_run: bool = False
    retire: bool = False
    progress: Progress = lambda done, total: None
    many_leave: bool = False

    def course(self, source: Path | CourseFiles) -> ImportReport:
        """The course in CSV files, or in a folder of them (cloud_api/imports/course_files.py). Raises InvalidInput with every problem by file and line."""
        problems = Problems()
        course = read_course(CourseFiles.in_folder(source) if isinstance(source, Path) else source, problems)
        return self._run("course.imported", problems, lambda edit: plan_course(edit, course, problems, retire=self.retire))

    def roster(self, path: Path) -> ImportReport:
        """The people and classes of one CSV file (cloud_api/imports/roster_file.py). Raises InvalidInput with every problem by file and line."""
        problems = Problems()
        people = read_roster(path, problems)
        return self._run(
            "roster.imported", problems, lambda edit: plan_roster(edit, people, problems, retire=self.retire, many_leave=self.many_leave)
        )

    def _run(self, action: str, problems: Problems, plan: Callable[[Edit], None]) -> ImportReport:
        now_ms = self.clock.now_ms()

        def run(cursor: Cursor) -> ImportReport:
            lock_for_editing(cursor, self.school_id)
            edit = Edit(cursor, self.school_id, self.ids, now_ms)
            plan(edit)
            problems.raise_if_any()
            numbers = range(0) if self.dry_run else edit.write(self.progress)
            if numbers:
                detail = {table: {"created": c.created, "changed": c.changed, "retired": c.retired} for table, c in edit.counts.items()}
                audit.record(cursor, self.school_id, self.ids.new(), now_ms, audit.OPERATOR, action, detail=detail)
            return ImportReport(edit.counts, numbers[0] if numbers else None, numbers[-1] if numbers else None, self.dry_run)

        try:
            return self.database.retrying(run)
        except psycopg2.IntegrityError as error:
            raise Conflict("The import contradicts what is stored; nothing was imported.") from error
