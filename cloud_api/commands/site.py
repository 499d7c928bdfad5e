"""What commands have in common: which database they work on, how they print, and how they show progress."""

from __future__ import annotations

import datetime
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cloud_api.backups import withdrawals
from cloud_api.config import CloudConfig, database_url, load_config, withdrawals_path
from cloud_api.database import CloudDatabase
from cloud_api.publication import Progress
from cloud_api.schema import demand_schema
from cloud_api.serving import logs
from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, NotFound, PostgresUnavailable, Unavailable
from domain.ids import Id, IdSource, parse_id
from loglines.crashes import tell_crashes

if TYPE_CHECKING:
    from cloud_api.embedded import EmbeddedPostgres

# The database that `--embedded` makes on its server.
EMBEDDED_DATABASE = "carrel"
# Connections that an administrator's command opens.
COMMAND_CONNECTIONS = 2
# What takes longer shows a bar.
BAR_AFTER_S = 2.0

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Options:
    """Where the database is, as the command line says; the environment and config.toml fill in the rest."""

    config: Path | None
    database_url: str | None
    embedded: bool
    data_dir: Path | None


@dataclass(frozen=True)
class Site:
    """A server's configuration and the address of its database; `superuser_url` is the same for PostgreSQL's superuser, where it is known."""

    config: CloudConfig
    url: str
    clock: Clock
    ids: IdSource
    superuser_url: str | None = None

    @contextmanager
    def database(self) -> Iterator[CloudDatabase]:
        """The database with the schema that this version needs. Raises PostgresUnavailable, SchemaError."""
        database = CloudDatabase(self.url, COMMAND_CONNECTIONS, COMMAND_CONNECTIONS, self.config.database)
        try:
            try:
                database.ping()
            except Unavailable as error:
                raise PostgresUnavailable(error.message) from error
            demand_schema(database)
            yield database
        finally:
            database.close()


def database_options(command: F) -> F:
    """Adds the options that say which database to use; the command gets them as its first argument, an `Options`."""

    @functools.wraps(command)
    def with_options(
        config: Path | None, database_url: str | None, embedded: bool, data_dir: Path | None, *args: Any, **kwargs: Any
    ) -> Any:
        return command(Options(config, database_url, embedded, data_dir), *args, **kwargs)

    decorated: Any = with_options
    for option in reversed(_DATABASE_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


_DATABASE_OPTIONS = (
    click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="Configuration file (else CARREL_CONFIG)."),
    click.option("--database-url", metavar="URL", help="Address of the database (else DATABASE_URL)."),
    click.option("--embedded", is_flag=True, help="Use the embedded PostgreSQL, started if need be."),
    click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the embedded PostgreSQL's data."),
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
school_option = click.option("--school", required=True, metavar="NAME|ID", help="The school, by name or id.")


def id_argument(name: str) -> Callable[[F], F]:
    """An argument that is an id, in either form; the command gets it in the internal one."""

    def parsed(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
        return plain_id(text, name.removesuffix("_id").replace("_", " "))

    return click.argument(name, callback=parsed)


def plain_id(text: str, what: str) -> Id:
    """The internal form of an id that a person has typed. Raises NotFound: there is nothing of a name that is none."""
    try:
        return parse_id(text)
    except ValueError as error:
        raise NotFound(f"That is not the id of a {what}.") from error


def keep_withdrawals(site: Site, database: CloudDatabase) -> None:
    """Has the register hold what was withdrawn. Where it cannot, that is said, and nothing else fails for it: what was withdrawn is withdrawn."""
    try:
        withdrawals.keep(withdrawals_path(site.config), database)
    except CarrelError as error:
        click.echo(f"warning: {error.message} A backup of before would give back what was withdrawn.", err=True)


def time_text(at_ms: int) -> str:
    """UTC ms as people read it."""
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


@contextmanager
def open_site(options: Options) -> Iterator[Site]:
    """The configured server; with `--embedded` its PostgreSQL runs as long as the block, unless it ran before."""
    config = load_config(options.config, os.environ)
    logs.start(config.log_level, config.log_format)
    tell_crashes(logging.getLogger("carrel.cloud"))
    clock = SystemClock()
    ids = IdSource(clock.now_ms)
    if not options.embedded:
        yield Site(config, options.database_url or database_url(os.environ), clock, ids)
        return
    with _embedded(options.data_dir or _data_dir(config)) as server:
        url = server.ensure_database(EMBEDDED_DATABASE)
        yield Site(config, url, clock, ids, server.superuser_url_for(EMBEDDED_DATABASE))


def _data_dir(config: CloudConfig) -> Path:
    if config.embedded_dir:
        return Path(config.embedded_dir).expanduser().absolute()
    from platformdirs import user_data_path  # here, because most servers use a PostgreSQL of their own

    return user_data_path("carrel", appauthor=False) / "postgres"


@contextmanager
def _embedded(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    from cloud_api.embedded import EmbeddedPostgres, reachable_folder

    with EmbeddedPostgres.start(reachable_folder(data_dir)) as server:
        yield server


def show(data: Any, as_json: bool, lines: Iterable[str]) -> None:
    """Prints the result: `data` (dataclasses are opened up) as JSON, or `lines` for people."""
    if as_json:
        click.echo(json.dumps(data, default=_plain, ensure_ascii=False, indent=2))
        return
    for line in lines:
        click.echo(line)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} is not printable")


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A callback (done, total) that shows a bar on a terminal once the work has taken two seconds."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console  # here, because it is large and seldom needed
    from rich.progress import Progress as Bar

    began_s = time.monotonic()
    with Bar(console=Console(stderr=True), transient=True, disable=False) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=time.monotonic() - began_s >= BAR_AFTER_S)

        yield tell
