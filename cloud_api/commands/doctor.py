"""`carrel-cloud doctor`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cloud_api.commands.site import Options, database_options, json_option, open_site, show
from domain import findings

# Where carrel-cloud-backup.service puts them.
BACKUPS = Path("/var/lib/carrel-cloud/backups")


@click.command(
    epilog="""\b
Examples:
  carrel-cloud doctor
  carrel-cloud doctor --fix
  carrel-cloud doctor --backups /var/backups/carrel --json"""
)
@database_options
@click.option(
    "--backups", type=click.Path(path_type=Path, file_okay=False), default=BACKUPS, show_default=True, help="The folder of the backups."
)
@click.option(
    "--fix", "put_right", is_flag=True, help="Put right what is safe: modes of files, a backup that is missing, what is to be let go of."
)
@json_option
def doctor(options: Options, backups: Path, put_right: bool, as_json: bool) -> None:
    """Look at everything that can go wrong on this server, and say what helps. Changes nothing unless --fix is given.

    Ends with 0 when nothing is wrong, 11 for warnings, 1 when something does not work or may be lost.
    """
    from cloud_api.doctor.examination import examine_server  # here, because it is seldom needed

    with open_site(options) as site:

        def look() -> list[findings.Finding]:
            return examine_server(site.config, site.url, backups, site.clock)

        found, fixed = look(), []
        if put_right and (fixed := findings.fix(found)):
            found = look()
    data = {"severity": findings.worst(found).value, "findings": [one.as_json() for one in found], "fixed": fixed}
    show(data, as_json, [*findings.lines(found), *(f"put right: {check}" for check in fixed)])
    sys.exit(findings.exit_code(found))
