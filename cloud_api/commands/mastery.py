"""`carrel-cloud mastery`: what students have mastered, and the model that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from cloud_api.commands.site import Options, Site, database_options, json_option, open_site, school_option, show
from cloud_api.database import CloudDatabase
from cloud_api.learning import mastery as storage
from cloud_api.learning.refitting import Refitted, refit_school
from cloud_api.learning.snapshots import Published, publish_snapshot
from cloud_api.pages.classes.words import LEVELS
from cloud_api.people import find_class
from cloud_api.schools import School, find_school, list_schools
from domain.counted import counted
from domain.errors import CarrelError, OperatorError
from domain.learning.levels import Level
from migrations.commands.groups import Group

T = TypeVar("T", Published, Refitted)
one_school = click.option("--school", metavar="NAME|ID", help="The school, by name or id.")
all_schools = click.option(
    "--all-schools", "all_of_them", is_flag=True, help="Every school of this server, one after the other: for timers."
)


@click.group(cls=Group)
def mastery() -> None:
    """What students have mastered, and the model behind it."""


@mastery.command(name="show", epilog="\b\nExample: carrel-cloud mastery show --school 'Hill School' --class 7b")
@database_options
@school_option
@click.option("--class", "class_name", required=True, metavar="NAME", help="The class.")
@json_option
def show_mastery(options: Options, school: str, class_name: str, as_json: bool) -> None:
    """Show what the students of a class have mastered, from all attempts that have reached the server."""
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = find_school(cursor, school).id
            class_id = find_class(cursor, school_id, class_name)
        rows = database.retrying(lambda cursor: storage.of_class(cursor, school_id, class_id, site.clock.now_ms()))
    show(rows, as_json, [_line(row) for row in rows] or ["No answers yet."])


def _line(row: storage.StudentMastery) -> str:
    level = Level(row.level)
    score = "–" if level is Level.NOT_ENOUGH_EVIDENCE else f"{row.score:.2f}"
    return f"{row.display_name:24} {row.concept[:40]:40} {score:>6}  {LEVELS[level]:16} {counted(row.attempts, 'answer'):>13}"


@mastery.command(
    name="snapshot",
    epilog="""\b
Examples:
  carrel-cloud mastery snapshot --school 'Hill School'
  carrel-cloud mastery snapshot --all-schools""",
)
@database_options
@one_school
@all_schools
@json_option
def snapshot(options: Options, school: str | None, all_of_them: bool, as_json: bool) -> None:
    """Count how hard every question is, and publish it to devices: for a timer, once a day.

    Devices and server work out mastery with the newest count that they have.
    """

    def publish(site: Site, database: CloudDatabase, school_id: str) -> Published:
        return database.retrying(lambda cursor: publish_snapshot(cursor, site.ids, school_id, site.clock.now_ms()))

    _for_schools(options, _named(school, all_of_them), publish, _published, as_json)


@mastery.command(
    name="refit",
    epilog="""\b
Examples:
  carrel-cloud mastery refit --school 'Hill School'
  carrel-cloud mastery refit --all-schools""",
)
@database_options
@one_school
@all_schools
@json_option
def refit(options: Options, school: str | None, all_of_them: bool, as_json: bool) -> None:
    """Fit the model's weights to the school's own answers: for a timer, once a month.

    They are published only if they foretell the last month better than the shipped ones. Needs 20,000 answers.
    """

    def fit(site: Site, database: CloudDatabase, school_id: str) -> Refitted:
        return refit_school(database, site.clock, site.ids, school_id)

    _for_schools(options, _named(school, all_of_them), fit, _refitted, as_json)


def _named(school: str | None, all_of_them: bool) -> str | None:
    """The one school that is meant, None for all of them. Raises UsageError unless it is said which."""
    if (school is None) != all_of_them:
        raise click.UsageError("Either --school or --all-schools.")
    return school


def _for_schools(
    options: Options, named: str | None, work: Callable[[Site, CloudDatabase, str], T], sentence: Callable[[T], str], as_json: bool
) -> None:
    """Does the work for one school, or for each; one that fails does not keep the others from theirs. Raises OperatorError for those that failed."""
    failed: list[str] = []
    with open_site(options) as site, site.database() as database:
        if named is not None:
            with database.transaction(read_only=True) as cursor:
                one = find_school(cursor, named)
            done = work(site, database, one.id)
            show(done, as_json, [sentence(done)])
            return
        with database.transaction(read_only=True) as cursor:
            schools = list_schools(cursor)
        each: list[tuple[School, T]] = []
        for school in schools:
            try:
                each.append((school, work(site, database, school.id)))
            except CarrelError as error:
                failed.append(f"{school.name}: {error.message}")
    told = [{"school": school.name, "school_id": school.id, "done": done} for school, done in each]
    show(told, as_json, [f"{school.name}: {sentence(done)}" for school, done in each] or ["There is no school yet."])
    if failed:
        raise OperatorError(f"It failed for {len(failed)} of {len(schools)} schools. {' '.join(failed)}")


def _published(done: Published) -> str:
    counts = f"{counted(done.attempts, 'answer')} to {counted(done.questions, 'question')}"
    return f"published: {counts} ({done.id[:12]})" if done.new else f"nothing new: {counts}"


def _refitted(done: Refitted) -> str:
    if done.shipped_loss is None or done.fitted_loss is None:
        return f"too few answers ({done.attempts}); the weights stay as they are"
    losses = (
        f"log loss on the last {counted(done.attempts_judged, 'answer')}: {done.fitted_loss:.4f} fitted, {done.shipped_loss:.4f} shipped"
    )
    said = {"adopted": "adopted the school's own weights", "shipped": "back to the shipped weights", "kept": "the weights stay as they are"}
    return f"{said[done.outcome]}; {losses}; model {done.model_version}"
