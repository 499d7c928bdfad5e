"""`carrel-cloud dead-letters`: operations that were refused; looked at, corrected, replayed, kept in a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from cloud_api import schools
from cloud_api.commands.site import (
    Options,
    Site,
    database_options,
    id_argument,
    json_option,
    open_site,
    plain_id,
    progress_bar,
    school_option,
    show,
    time_text,
)
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.repair import dead_letters as stored
from cloud_api.repair.letter_repair import Repair
from domain.errors import InvalidInput, NotFound, OperatorError, Problem
from domain.operations import Rejection, Verdict
from migrations.commands.groups import Group

LIMIT_DEFAULT = 50
# `replay` ends with this when something is refused still.
EXIT_REFUSED = 1
# The file holds answers of students.
FILE_MODE = 0o600

_FILTERS = (
    click.option("--code", type=click.Choice([code.value for code in Rejection]), help="Refused for this reason."),
    click.option("--device", "device_id", metavar="ID", help="Of this device."),
    click.option("--table", metavar="NAME", help="About rows of this table."),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that choose letters."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _chosen(code: str | None, device_id: str | None, table: str | None) -> stored.Filter:
    return stored.Filter(code, plain_id(device_id, "device") if device_id else None, table)


@click.group(name="dead-letters", cls=Group)
def dead_letters() -> None:
    """Operations of devices that were refused, kept whole."""


@dead_letters.command(name="list", epilog="\b\nExample: carrel-cloud dead-letters list --school 'Hill School' --code unknown_reference")
@database_options
@school_option
@_filters
@click.option("--limit", type=click.IntRange(1, stored.LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True)
@json_option
def list_letters(
    options: Options, school: str, code: str | None, device_id: str | None, table: str | None, limit: int, as_json: bool
) -> None:
    """Show what was refused and why, newest first."""
    chosen = _chosen(code, device_id, table)
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        found = stored.list_letters(cursor, school_id, chosen, limit)
        count = stored.count_letters(cursor, school_id, chosen)
    lines = [_line(letter) for letter in found] or ["no dead letters"]
    lines += [f"… and {count - len(found)} more (--limit)"] if count > len(found) else []
    show({"count": count, "items": found}, as_json, lines)


@dead_letters.command(
    name="show", epilog="\b\nExample: carrel-cloud dead-letters show --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d"
)
@database_options
@school_option
@id_argument("letter_id")
@json_option
def show_letter(options: Options, school: str, letter_id: str, as_json: bool) -> None:
    """Show one letter whole."""
    with open_site(options) as site, site.database() as database, database.transaction(read_only=True) as cursor:
        found = stored.find_letter(cursor, schools.find_school(cursor, school).id, letter_id)
    show(found, as_json, [f"{name}: {value if isinstance(value, str) else _text(value)}" for name, value in asdict(found).items()])


@dead_letters.command(
    name="fix",
    epilog="""\b
Examples:
  carrel-cloud dead-letters fix --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d --set confidence=4
  carrel-cloud dead-letters fix --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d --null active_ms --drop corrected_at_ms""",
)
@database_options
@school_option
@id_argument("letter_id")
@click.option("--set", "sets", multiple=True, metavar="FIELD=VALUE", help="A value as it is; JSON for fields that hold JSON.")
@click.option("--null", "nulls", multiple=True, metavar="FIELD", help="Make this field null.")
@click.option("--drop", "drops", multiple=True, metavar="FIELD", help="Leave this field out.")
@json_option
def fix_letter(
    options: Options, school: str, letter_id: str, sets: tuple[str, ...], nulls: tuple[str, ...], drops: tuple[str, ...], as_json: bool
) -> None:
    """Correct what an operation holds, and replay it."""
    repair = Repair(dict(_parted(text) for text in sets), nulls, drops)
    with open_site(options) as site, site.database() as database:
        done = database.retrying(
            lambda cursor: stored.replay(cursor, site.ids, schools.find_school(cursor, school).id, letter_id, site.clock.now_ms(), repair)
        )
    _end(done, as_json)


@dead_letters.command(
    name="replay",
    epilog="""\b
Examples:
  carrel-cloud dead-letters replay --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d
  carrel-cloud dead-letters replay --school 'Hill School' --all --code not_granted""",
)
@database_options
@school_option
@click.argument("letter_id", required=False)
@click.option("--all", "all_", is_flag=True, help="All letters, or those that the other options choose.")
@_filters
@json_option
def replay_letters(
    options: Options,
    school: str,
    letter_id: str | None,
    all_: bool,
    code: str | None,
    device_id: str | None,
    table: str | None,
    as_json: bool,
) -> None:
    """Apply refused operations after all, on your responsibility: what the devices are granted does not count.

    What is taken goes to the devices, and its letter is gone; what is refused again keeps its letter, with the present reason.
    """
    if bool(letter_id) == all_ or (letter_id and (code or device_id or table)):
        raise InvalidInput(
            [Problem("LETTER_ID", "missing_field", "Name one letter, or say --all, perhaps with --code, --device, --table.")]
        )
    chosen = _chosen(code, device_id, table)
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = schools.find_school(cursor, school).id
            letters = [plain_id(letter_id, "dead letter")] if letter_id else stored.letters_in_order(cursor, school_id, chosen)
        done = [one for one in _replay(site, database, school_id, letters) if one is not None]
    if letter_id:
        if not done:
            raise NotFound("There is no such dead letter; `carrel-cloud dead-letters list` shows those there are.")
        _end(done[0], as_json)
    refused = [one for one in done if one.verdict == Verdict.REJECTED]
    lines = [_outcome(one) for one in refused] + [f"{len(done) - len(refused)} taken, {len(refused)} refused again"]
    show({"taken": len(done) - len(refused), "refused": refused}, as_json, lines)
    sys.exit(EXIT_REFUSED if refused else 0)


@dead_letters.command(name="export", epilog="\b\nExample: carrel-cloud dead-letters export --school 'Hill School' letters.jsonl")
@database_options
@school_option
@_filters
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export_letters(options: Options, school: str, code: str | None, device_id: str | None, table: str | None, file: Path) -> None:
    """Write letters whole into FILE, which must not be there yet: JSON, one a line, as they were written."""
    chosen = _chosen(code, device_id, table)
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        letters = stored.letters_in_order(cursor, school_id, chosen)
        try:
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE), "w", encoding="utf-8") as out:
                for letter in letters:
                    out.write(json.dumps(asdict(stored.find_letter(cursor, school_id, letter)), ensure_ascii=False) + "\n")
        except OSError as error:
            raise OperatorError(f"{file} cannot be written: {error.strerror}.") from error
    click.echo(f"{len(letters)} written to {file}")


def _replay(site: Site, database: CloudDatabase, school_id: str, letters: Sequence[str]) -> Iterator[stored.Replayed | None]:
    """Each letter in a transaction of its own, so that one that fails stops no other; None for one that has gone meanwhile."""

    def one(cursor: Cursor, letter: str) -> stored.Replayed | None:
        try:
            return stored.replay(cursor, site.ids, school_id, letter, site.clock.now_ms())
        except NotFound:
            return None

    with progress_bar("replaying") as progress:
        for number, letter in enumerate(letters, 1):
            yield database.retrying(partial(one, letter=letter))
            progress(number, len(letters))


def _parted(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput([Problem("--set", "invalid_value", "--set takes FIELD=VALUE.")])
    return name, value


def _end(done: stored.Replayed, as_json: bool) -> NoReturn:
    show(done, as_json, [_outcome(done)])
    sys.exit(EXIT_REFUSED if done.verdict == Verdict.REJECTED else 0)


def _outcome(done: stored.Replayed) -> str:
    return f"{done.id}  {done.verdict}" + (f": {done.message} ({done.code})" if done.code else "")


def _line(letter: stored.DeadLetter) -> str:
    what = f"{letter.kind} of {letter.table_name} {letter.row_id}"
    return f"{letter.id}  {time_text(letter.received_at_ms)}  device {letter.device_id}  {what}: {letter.message} ({letter.code})"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
