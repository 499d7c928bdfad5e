"""`carrel-cloud status`: the fleet page of every school, on a terminal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import click

from cloud_api.commands.site import Options, Site, database_options, json_option, open_site, show
from cloud_api.database import CloudDatabase
from cloud_api.fleet import overview
from cloud_api.fleet.overview import Totals
from cloud_api.pages.fleet.words import STATES, standing
from cloud_api.pages.words import ago, count, span
from cloud_api.schema import demand_schema
from cloud_api.schools import School, list_schools, server_epoch
from domain.errors import Unavailable
from migrations.files import shipped_files

# States in the order in which they want to be read.
_ORDER = tuple(STATES)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at a moment (UTC ms): the schema, and each school with its devices."""

    at_ms: int
    schema: str
    schema_of_this_version: str
    server_epoch: str
    schools: list[tuple[School, Totals]]

    def data(self) -> dict[str, Any]:
        """The same for programs. Times are UTC ms."""
        schools = [{**asdict(school), "fleet": {**asdict(totals), "devices": totals.devices}} for school, totals in self.schools]
        told = {"at_ms": self.at_ms, "schema": self.schema, "schema_of_this_version": self.schema_of_this_version}
        return {**told, "server_epoch": self.server_epoch, "schools": schools}

    def lines(self) -> list[str]:
        """The same for people."""
        return [
            _schema_line(self.schema, self.schema_of_this_version),
            *(line for one in self.schools for line in _lines(*one, self.at_ms)),
        ]


@click.command(
    epilog="""\b
Examples:
  carrel-cloud status
  carrel-cloud status --watch
  carrel-cloud status --json"""
)
@database_options
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C; with --json one object a line.")
@click.option(
    "--every", "every_s", type=click.IntRange(1, 3600), default=5, show_default=True, help="Seconds between two looks of --watch."
)
@json_option
def status(options: Options, watch: bool, every_s: int, as_json: bool) -> None:
    """Whether database and schema are as they must be, and how the devices of each school stand.

    A device that was not heard of for a day counts as silent, whatever it said before. Ends with 0 when the database is as it must be, 4 for a wrong schema, 5 when it
    cannot be reached.
    """
    with open_site(options) as site, site.database() as database:
        if not watch:
            look = _look(site, database)
            show(look.data(), as_json, look.lines())
            return
        _watch(lambda: _look(site, database), as_json, every_s)


def _look(site: Site, database: CloudDatabase) -> Look:
    schema, now_ms = demand_schema(database), site.clock.now_ms()
    with database.transaction(snapshot=True) as cursor:
        schools = [(school, overview.totals(cursor, school.id, now_ms)) for school in list_schools(cursor)]
        return Look(now_ms, schema, shipped_files("cloud")[-1].name, server_epoch(cursor), schools)


def _watch(look: Callable[[], Look], as_json: bool, every_s: float) -> None:
    """Shows each look until Ctrl-C. A file or pipe gets the lines whenever they say something new; a database that is away is said, and waited for."""
    said: list[str] = []
    pause = threading.Event()  # nobody sets it; unlike a sleep its wait can be given up at once
    with suppress(KeyboardInterrupt):
        while True:
            try:
                found = look()
            except Unavailable as error:
                said = _say([error.message], said, json.dumps({"unavailable": error.message}) if as_json else None)
            else:
                said = _say(found.lines(), said, json.dumps(found.data(), ensure_ascii=False) if as_json else None)
            pause.wait(every_s)


def _say(lines: list[str], before: list[str], as_json: str | None) -> list[str]:
    if as_json is not None:
        click.echo(as_json)
    elif sys.stdout.isatty():
        click.clear()
        click.echo("\n".join([*lines, "", "Ctrl-C ends."]))
    elif lines != before:
        click.echo("\n".join(lines))
    sys.stdout.flush()
    return lines


def _schema_line(schema: str, own: str) -> str:
    """What is said of a database that is served: `own` is the newest migration of this version."""
    if schema == own:
        return f"schema {schema}, up to date"
    return f"schema {schema}, one step newer than this version ({own}), which can serve it: install the newer version here too"


def _lines(school: School, totals: Totals, now_ms: int) -> list[str]:
    stands = standing(totals)
    lines = [f"school {school.id}  {school.name}  (feed number {school.head})", f"  {stands.sentence} {stands.detail}".rstrip()]
    if not sum(totals.states.values()):
        return lines
    states = ", ".join(f"{totals.states[state]} {STATES[state]}" for state in _ORDER if totals.states[state])
    lines.append(f"  devices: {states}; last contact {ago(totals.last_seen_ms, now_ms)}")
    oldest = f", the oldest for {span(now_ms - totals.oldest_pending_at_ms)}" if totals.oldest_pending_at_ms is not None else ""
    lines.append(
        f"  waiting on them: {count(totals.pending, 'change')}{oldest}; refused: {totals.dead_letters}; conflicts: {totals.conflicts}"
    )
    return lines
