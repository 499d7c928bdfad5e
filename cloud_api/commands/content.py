"""`carrel-cloud import` and `carrel-cloud content`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from cloud_api import schools
from cloud_api.commands.site import Options, database_options, json_option, open_site, progress_bar, school_option, show
from cloud_api.content import export_content
from cloud_api.imports.course_files import CourseFiles
from cloud_api.imports.loading import Importer, ImportReport
from domain.content_pack import SUFFIX
from domain.errors import InvalidInput, OperatorError, Problem
from migrations.commands.groups import Group


@click.group(name="import", cls=Group)
def import_() -> None:
    """Bring a course or a roster into a school: all of it, or nothing."""


_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would change.")
_retire = click.option("--retire", is_flag=True, help="Retire what is no longer in the files; nothing is ever deleted that is referred to.")


_file = click.Path(path_type=Path, exists=True, dir_okay=False)


@import_.command(
    epilog="""\b
Examples:
  carrel-cloud import course seeds/elementary-algebra --school 'Hill School' --dry-run
  carrel-cloud import course --topics syllabus.csv --prerequisites needs.csv --topics-are-concepts --school 'Hill School'"""
)
@database_options
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@school_option
@click.option("--topics", type=_file, help="The file of topics, instead of topics.csv in the folder.")
@click.option("--concepts", type=_file, help="The same for concepts.")
@click.option("--questions", type=_file, help="The same for questions.")
@click.option("--prerequisites", type=_file, help="The same for prerequisites.")
@click.option(
    "--topics-are-concepts", is_flag=True, help="Without a file of concepts, make one of every topic that has no topics below it."
)
@_dry_run
@_retire
@json_option
def course(
    options: Options,
    folder: Path | None,
    school: str,
    dry_run: bool,
    retire: bool,
    as_json: bool,
    topics_are_concepts: bool,
    **named: Path | None,
) -> None:
    """Import topics, concepts, questions and prerequisites: topics.csv and so on of FOLDER, or files named one by one.

    May be repeated: rows are found by their ids in the files, and what is the same stays untouched. docs/import.md describes every column.
    """
    if folder is None and named["topics"] is None:
        raise InvalidInput([Problem("FOLDER", "invalid_value", "Name a folder, or at least the file of topics.")])
    found = CourseFiles.in_folder(folder) if folder else CourseFiles(named["topics"] or Path())
    files = replace(found, topics_are_concepts=topics_are_concepts, **{name: path for name, path in named.items() if path is not None})
    if folder and not files.topics.exists():
        message = (
            "There is no topics.csv in it: --topics, --concepts, --questions and --prerequisites name files that are called otherwise."
        )
        raise InvalidInput([Problem("FOLDER", "invalid_value", message)])
    _import(options, school, dry_run, retire, as_json, lambda importer: importer.course(files))


@import_.command(epilog="\b\nExample: carrel-cloud import roster roster.csv --school 'Hill School'")
@database_options
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@school_option
@_dry_run
@_retire
@click.option("--many-leave", is_flag=True, help="With --retire: even if more than half of the people are not in the file.")
@json_option
def roster(options: Options, file: Path, school: str, dry_run: bool, retire: bool, many_leave: bool, as_json: bool) -> None:
    """Import people and classes from FILE, with the columns username, display_name, role, and, if wanted, class and external_id.

    May be repeated: people are found by external_id, else by user name. docs/import.md describes every column.
    """
    _import(options, school, dry_run, retire, as_json, lambda importer: replace(importer, many_leave=many_leave).roster(file))


def _import(options: Options, school: str, dry_run: bool, retire: bool, as_json: bool, run: Callable[[Importer], ImportReport]) -> None:
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = schools.find_school(cursor, school).id
        with progress_bar("Importing") as progress:
            report = run(Importer(database, site.clock, site.ids, school_id, dry_run, retire, progress))
    show(report, as_json, _lines(report))


def _lines(report: ImportReport) -> list[str]:
    lines = [
        f"{table:20}{c.created:>8} new {c.changed:>8} changed {c.retired:>8} retired {c.unchanged:>8} unchanged"
        for table, c in report.tables.items()
    ]
    if report.dry_run:
        return [*lines, "Nothing was written: this was a dry run."]
    return [*lines, "Imported." if report.changes else "Nothing to change."]


@click.group(cls=Group)
def content() -> None:
    """The school's course content as a file."""


@content.command(epilog=f"Example: carrel-cloud content export algebra{SUFFIX} --school 'Hill School'")
@database_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@school_option
def export(options: Options, file: Path, school: str) -> None:
    """Write the school's course content to FILE, for devices without a network."""
    path = file if file.name.endswith(SUFFIX) else file.with_name(file.name + SUFFIX)
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        data = export_content(cursor, schools.find_school(cursor, school).id)
    _write_whole(path, data)
    click.echo(f"{path} ({len(data)} bytes)")


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file under its name only when it is complete, so that a watched folder never shows half of it."""
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            partial = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error
