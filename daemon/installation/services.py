"""Which service manager a machine has, and what an installation asks of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from daemon.installation import manager
from daemon.installation.launchd import Launchd
from daemon.installation.layout import Layout, Role


class Services(Protocol):
    """systemd (`manager`) or launchd (`Launchd`); each method raises OperatorError for what cannot be done."""

    def demand(self) -> None:
        """That this is root, on a machine of this kind."""

    def place_units(self, layout: Layout, role: Role, environment: Path) -> bool:
        """Those of the version in `environment`; whether anything was new."""

    def remove_units(self, layout: Layout, role: Role) -> None:
        """What `place_units` wrote."""

    def make_account(self, role: Role) -> None:
        """Unless it is there."""

    def remove_account(self, role: Role) -> None:
        """If it is there."""

    def reload(self) -> None:
        """What was placed or removed is taken notice of."""

    def start(self, role: Role) -> None:
        """Returns when the service is ready."""

    def restart(self, role: Role) -> None:
        """With the present programs."""

    def stop(self, role: Role) -> None:
        """For good."""

    def pause(self, role: Role) -> None:
        """Until it is started."""

    def states(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """Unit -> `ActiveState` and what else there is to say."""

    def as_account(self, role: Role) -> list[str]:
        """The words that run a command with the role's account."""


def services_of(layout: Layout) -> Services:
    """The service manager of the machine that is laid out so."""
    return Launchd(layout) if layout.is_mac else manager
