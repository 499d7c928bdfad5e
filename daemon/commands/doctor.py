"""`carrel doctor`."""

from __future__ import annotations

import sys

import click

from daemon.commands.site import Settings, as_json, tell
from daemon.process.left_out import leave_out_postgres


@click.command(
    epilog="""\b
Examples:
  carrel doctor
  carrel doctor --fix
  carrel doctor --json --no-network"""
)
@click.option("--fix", "put_right", is_flag=True, help="Put right what is safe: modes of files, leftovers, a backup that is missing.")
@click.option("--no-network", is_flag=True, help="Leave the school's server alone.")
@as_json
@click.pass_obj
def doctor(settings: Settings, put_right: bool, no_network: bool, as_json: bool) -> None:
    """Look at everything that can go wrong on this device, and say what helps. Changes nothing unless --fix is given.

    Ends with 0 when nothing is wrong, 11 for warnings, 1 when something does not work or may be lost.
    """
    leave_out_postgres()
    from daemon.doctor.examination import examine_device
    from domain import findings
    from domain.clock import SystemClock

    def look() -> list[findings.Finding]:
        return examine_device(settings.path, settings.environ, SystemClock(), network=not no_network)

    found, fixed = look(), []
    if put_right and (fixed := findings.fix(found)):
        found = look()
    answer = {"severity": findings.worst(found).value, "findings": [one.as_json() for one in found], "fixed": fixed}
    tell(answer, as_json, lambda _: "\n".join([*findings.lines(found), *(f"put right: {check}" for check in fixed)]))
    sys.exit(findings.exit_code(found))
