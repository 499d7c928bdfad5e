"""All checks of a device, in the order in which a person would ask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daemon.config import DeviceConfig, load_config
from daemon.doctor import contents, files, machine, school
from domain.clock import Clock
from domain.errors import InvalidConfig
from domain.findings import Check, Finding, Severity, examine


def examine_device(path: Path | None, environ: Mapping[str, str], clock: Clock, *, network: bool = True) -> list[Finding]:
    """Everything that is found; with wrong configuration nothing else can be looked at. `network`: whether the school's server is asked."""
    try:
        config = load_config(path, environ)
    except InvalidConfig as error:
        return [
            Finding("configuration", Severity.ERROR, error.message, "correct it; `carrel config show` says where each value comes from")
        ]
    return [
        Finding("configuration", Severity.OK, str(config.source or "defaults and variables")),
        *examine(_checks(config, clock, network)),
    ]


def _checks(config: DeviceConfig, clock: Clock, network: bool) -> dict[str, Check]:
    checks: dict[str, Check] = {
        "versions": lambda: machine.versions(config),
        "service": lambda: machine.service(config),
        "permissions": lambda: files.permissions(config),
        "disk": lambda: files.disk(config),
        "leftovers": lambda: files.leftovers(config),
        "schema": lambda: contents.schema(config),
        "integrity": lambda: contents.integrity(config),
        "clock": lambda: contents.clock(config, clock),
        "enrolment": lambda: contents.enrolment(config),
        "queue": lambda: contents.queue(config, clock),
        "backups": lambda: contents.backups(config, clock),
    }
    if network:
        checks["server"] = lambda: school.server(config, clock)
    return checks
