"""`carrel-cloud`: runs and administers a school's server."""

from __future__ import annotations

import sys
from typing import Any

import click

from cloud_api.commands.audit import audit
from cloud_api.commands.backup import backup
from cloud_api.commands.bundle import bundle
from cloud_api.commands.classes import class_
from cloud_api.commands.conflicts import conflicts
from cloud_api.commands.content import content, import_
from cloud_api.commands.dead_letters import dead_letters
from cloud_api.commands.doctor import doctor
from cloud_api.commands.erasure import erase_student, export_student
from cloud_api.commands.mastery import mastery
from cloud_api.commands.plan import plan
from cloud_api.commands.restore import restore_backup
from cloud_api.commands.schools import device, enrol_code, school, user
from cloud_api.commands.serving import serve
from cloud_api.commands.status import status
from cloud_api.commands.tidy import tidy_server
from domain.errors import EXIT_INTERRUPTED, CarrelError, InvalidInput
from migrations.commands.groups import Group


class _Commands(Group):
    """Ends with the error's exit code and its message, never with a traceback of an error that was foreseen."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CarrelError as error:
            click.echo(f"carrel-cloud: {error.message}", err=True)
            if isinstance(error, InvalidInput):
                for problem in (one for one in error.problems if one.message != error.message):
                    click.echo(f"  {problem.path}: {problem.message}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("carrel-cloud: Interrupted.", err=True)
            sys.exit(EXIT_INTERRUPTED)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Exit codes: 0 done; 1 refused or failed; 2 wrong input or configuration; 3 another process is at it;
4 the database's schema does not fit this version; 5 PostgreSQL cannot be reached; 130 Ctrl-C.""",
)
@click.version_option(package_name="carrel", prog_name="carrel-cloud")
def main() -> None:
    """Run and administer a school's server.

    Every command that needs the database takes it from DATABASE_URL, --database-url or --embedded.
    """


for command in (
    *(serve, status, school, user, enrol_code, device, import_, content, mastery, plan, class_),
    *(doctor, backup, restore_backup, tidy_server, dead_letters, conflicts, bundle, export_student, erase_student, audit),
):
    main.add_command(command)

if __name__ == "__main__":
    main()
