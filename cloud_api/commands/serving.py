"""`carrel-cloud serve`."""

from __future__ import annotations

import dataclasses
import os

import click

from cloud_api.commands.site import Options, database_options, open_site
from cloud_api.config import CloudConfig, load_config
from cloud_api.serving.counting_together import counting_together
from migrations.waiting import waiting_on_stderr


@click.command(
    epilog="""\b
Examples:
  DATABASE_URL=postgresql://carrel@db/carrel carrel-cloud serve --host 0.0.0.0    (with [cloud.tls] or trusted_proxies)
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
        site = dataclasses.replace(site, config=_listening_on(site.config, host, port, workers))
        if not no_migrate:
            from migrations.runner import upgrade_cloud  # before any thread or process that serves is started

            with waiting_on_stderr() as waiting:
                steps = upgrade_cloud(site.url, activity=waiting)
            for applied in steps:
                click.echo(f"applied {applied.name}", err=True)
        with site.database():
            pass  # a wrong address or schema is said here, not by every worker
        with counting_together():
            from cloud_api.serve import CloudServer  # here, because gunicorn is for this command alone

            CloudServer(site.config, site.url, lambda: _listening_on(load_config(options.config, os.environ), host, port, workers)).run()


def _listening_on(config: CloudConfig, host: str | None, port: int | None, workers: int | None) -> CloudConfig:
    """The configuration with what the command line says of the listener."""
    server = config.server
    server = dataclasses.replace(
        server,
        host=server.host if host is None else host,
        port=server.port if port is None else port,
        workers=workers or server.workers,
    )
    return dataclasses.replace(config, server=server)
