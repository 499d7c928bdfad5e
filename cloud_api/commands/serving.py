"""`carrel-cloud serve` and `carrel-cloud status`."""

from __future__ import annotations

import dataclasses

import click

from cloud_api.commands.site import Options, Site, database_options, json_option, open_site, show
from cloud_api.schema import demand_schema
from cloud_api.schools import School, list_schools, server_epoch
from migrations.files import shipped_files
from migrations.waiting import waiting_on_stderr


@click.command(
    epilog="""\b
Examples:
  DATABASE_URL=postgresql://carrel@db/carrel carrel-cloud serve --host 0.0.0.0
  carrel-cloud serve --embedded --port 8751"""
)
@database_options
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port to listen on; 0 takes any free one.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.")
@click.option("--no-migrate", is_flag=True, help="Leave the database's schema as it is.")
def serve(options: Options, host: str | None, port: int | None, workers: int | None, no_migrate: bool) -> None:
    """Serve the cloud API until SIGTERM or Ctrl-C.

    Brings the database's schema up to date first, and prints the address when it listens.
    """
    with open_site(options) as site:
        site = _listening_on(site, host, port, workers)
        if not no_migrate:
            from migrations.runner import upgrade_cloud  # before any thread or process that serves is started

            with waiting_on_stderr() as waiting:
                steps = upgrade_cloud(site.url, activity=waiting)
            for applied in steps:
                click.echo(f"applied {applied.name}", err=True)
        with site.database():
            pass  # a wrong address or schema is said here, not by every worker
        from cloud_api.serve import CloudServer  # here, because gunicorn is for this command alone

        CloudServer(site.config, site.url).run()


def _listening_on(site: Site, host: str | None, port: int | None, workers: int | None) -> Site:
    """The site with what the command line says of the listener."""
    server = site.config.server
    server = dataclasses.replace(
        server,
        host=server.host if host is None else host,
        port=server.port if port is None else port,
        workers=workers or server.workers,
    )
    return dataclasses.replace(site, config=dataclasses.replace(site.config, server=server))


@click.command(
    epilog="""\b
Examples:
  carrel-cloud status
  carrel-cloud status --json"""
)
@database_options
@json_option
def status(options: Options, as_json: bool) -> None:
    """Whether database and schema are as they must be, and which schools there are.

    Ends with 0 when they are, 4 for a wrong schema, 5 when the database cannot be reached.
    """
    with open_site(options) as site, site.database() as database:
        schema = demand_schema(database)
        with database.transaction(snapshot=True) as cursor:
            epoch, schools = server_epoch(cursor), list_schools(cursor)
    own = shipped_files("cloud")[-1].name
    data = {"schema": schema, "schema_of_this_version": own, "server_epoch": epoch, "schools": schools}
    show(data, as_json, [_schema_line(schema, own), *map(_line, schools)])


def _schema_line(schema: str, own: str) -> str:
    """What is said of a database that is served: `own` is the newest migration of this version."""
    if schema == own:
        return f"schema {schema}, up to date"
    return f"schema {schema}, one step newer than this version ({own}), which can serve it: install the newer version here too"


def _line(school: School) -> str:
    return f"school {school.id}  {school.name}  (feed number {school.head})"
