"""Taking Carrel off a machine: the programs and units, and with `purge` everything that it ever left there."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass

from daemon.image import unsent
from daemon.installation.layout import SERVER, Layout, Role
from daemon.installation.services import services_of
from daemon.installation.tools import alone
from domain.counted import counted
from domain.errors import OperatorError


@dataclass(frozen=True)
class Removed:
    """Whether the programs went as well, which another role may still need, and whether data and settings did."""

    role: str
    programs: bool
    data: bool


def uninstall(layout: Layout, role: Role, *, purge: bool, even_unsent: bool) -> Removed:
    """Stops the role and takes it away; nothing happens where it is not. Data and settings stay unless `purge` says otherwise.

    Raises OperatorError, with nothing changed but that the daemon was stopped until the machine's next start, when `purge` would lose what is not at
    school and `even_unsent` does not say so.
    """
    services_of(layout).demand()
    with alone(layout):
        return _uninstall(layout, role, purge=purge, even_unsent=even_unsent)


def _uninstall(layout: Layout, role: Role, *, purge: bool, even_unsent: bool) -> Removed:
    services = services_of(layout)
    if purge and role is layout.device and not even_unsent:
        if layout.has(role):
            services.pause(role)
        _demand_nothing_unsent(layout)
    if layout.has(role):
        services.stop(role)
    services.remove_units(layout, role)
    services.reload()
    is_last = not any(layout.has(other) for other in layout.roles.values() if other is not role)
    if is_last:
        shutil.rmtree(layout.prefix, ignore_errors=True)
    if purge:
        shutil.rmtree(layout.state(role), ignore_errors=True)
        if role is SERVER:
            layout.database_address.unlink(missing_ok=True)
        if is_last:
            shutil.rmtree(layout.config.parent, ignore_errors=True)
        services.remove_account(role)
    return Removed(role.name, programs=is_last, data=purge)


def _demand_nothing_unsent(layout: Layout) -> None:
    if not layout.database.exists():
        return
    try:
        count = unsent(layout.database)
    except (OSError, sqlite3.Error) as error:
        raise OperatorError(
            f"Whether everything is at school cannot be told, so nothing was removed: {error}. --even-unsent removes it."
        ) from error
    if count:
        raise OperatorError(
            f"Nothing was removed, because {counted(count, 'change')} {'is' if count == 1 else 'are'} not at school yet. Start carrel.service and let"
            " `carrel sync` bring everything there, keep it with `carrel queue export`, or say --even-unsent."
        )
