"""The programs and the process: which versions there are, and whether the daemon runs and answers."""

from __future__ import annotations

import importlib.metadata
import platform
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from daemon import control
from daemon.config import DeviceConfig
from daemon.identity.enrolment import app_version
from daemon.installation.layout import DEVICE, Layout
from daemon.process.state_folder import find_running
from domain.errors import AlreadyRunning, CarrelError
from domain.findings import Finding, Severity
from migrations.lock import owning

ANSWER_MAX_S = 10.0


def versions(config: DeviceConfig) -> Iterator[Finding]:
    """Which versions work here, and whether the running daemon is of the installed one."""
    told = f"Carrel {app_version()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    running = find_running(config.state_dir)
    installed_ms = _installed_ms()
    if running and installed_ms and running[0].started_at_ms < installed_ms:
        yield Finding("versions", Severity.WARNING, f"{told}; the daemon was started before that was installed", f"{_restart()}")
        return
    yield Finding("versions", Severity.OK, told)


def service(config: DeviceConfig) -> Iterator[Finding]:
    """Whether the daemon runs, and says that it is well."""
    found = control.find(config.state_dir, ANSWER_MAX_S)
    if found is None:
        yield _not_running(config)
        return
    try:
        found.get("/v1/health")
        notices = found.get("/v1/status").get("notices", [])
    except CarrelError as error:
        yield Finding("service", Severity.ERROR, f"The daemon runs and does not do its work: {error.message}", _restart())
        return
    yield Finding("service", Severity.OK, f"The daemon answers at {found.running.url}.")
    for notice in notices:
        yield Finding("service", Severity.NOTE, str(notice))


def _not_running(config: DeviceConfig) -> Finding:
    if config.database_path.exists():
        try:
            with owning(config.database_path):
                pass
        except AlreadyRunning:
            return Finding("service", Severity.NOTE, "The daemon is starting, or a command works on the database.", "ask again in a minute")
    return Finding("service", Severity.ERROR, "The daemon does not run, so nothing is recorded or sent.", _start())


def _restart() -> str:
    layout = Layout()
    if not layout.has(layout.device):
        return "end `carrel run`, and start it anew"
    return (
        "launchctl kickstart -k system/school.carrel.daemon, as root" if layout.is_mac else f"systemctl restart {DEVICE.main_unit}, as root"
    )


def _start() -> str:
    layout = Layout()
    if layout.is_mac or not layout.has(layout.device):
        return "`carrel run`, or `sudo carrel service install`"
    return f"systemctl start {DEVICE.main_unit}, as root"


def _installed_ms() -> int | None:
    """When the files of this version were written, UTC ms; None in a clone."""
    try:
        found = importlib.metadata.distribution("carrel")
    except importlib.metadata.PackageNotFoundError:
        return None
    record = next((file for file in found.files or () if file.name == "RECORD"), None)
    path = Path(str(record.locate())) if record else None
    return int(path.stat().st_mtime * 1000) if path and path.exists() and not found.read_text("direct_url.json") else None
