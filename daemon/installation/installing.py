"""Installing, upgrading in place, and going back to the version before.

    environment from the wheel ──▶ (upgrade: a backup) ──▶ the link moved ──▶ account, units, settings ──▶ started, ready
                                                                └── not ready: the link moved back, with the units of before

Every step finds out what is there already, so that the whole may be called again at any time: also after it was killed, which a note in /opt/carrel
tells (`environment.begin`). Units and settings are those of the version that is taken up, whichever version does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.installation import environment
from daemon.installation.environment import Source
from daemon.installation.layout import SERVER, Layout, Role, shipped
from daemon.installation.services import services_of
from daemon.installation.tools import alone, run
from domain.errors import OperatorError

Say = Callable[[str], None]
_ENV_TEXT = "# DATABASE_URL='postgresql://carrel:password@db.example.school/carrel'\n"
_SECRET_MODE, _SETTINGS_MODE = 0o600, 0o644


@dataclass(frozen=True)
class Installed:
    """What is in use now, which version was before it, and whether the service runs; a new server waits for the address of its database."""

    role: str
    version: str
    previous: str | None
    running: bool


def install(layout: Layout, role: Role, source: Source | None, say: Say) -> Installed:
    """Installs the wheel for this role, or without one sets right what is installed. Raises OperatorError; an upgrade that does not start is
    taken back.
    """
    services_of(layout).demand()
    with alone(layout):
        return _install(layout, role, source, say)


def _install(layout: Layout, role: Role, source: Source | None, say: Say) -> Installed:
    there = [one for one in layout.roles.values() if layout.has(one)]
    roles = [one for one in layout.roles.values() if one is role or one in there]
    folder = _environment(layout, source, roles, say)
    before, broken_off = environment.begin(layout)
    upgrading = there if before not in (None, folder) else []
    for one in upgrading:
        say(f"backing up before the upgrade of the {one.name}")
        _back_up(layout, one, folder)
    try:
        changed = _take_up(layout, roles, folder)
        _place_settings(layout, role, folder)
        for one in roles:
            if one is role or one in upgrading:
                _run(layout, one, say, again=before != folder or changed or broken_off)
    except OperatorError as error:
        if before is None or before == folder:
            raise
        _take_back(layout, upgrading, folder, before)
        environment.end(layout)
        raise OperatorError(f"Version {environment.version_of(before)} is in use again. {error.message}") from error
    environment.end(layout)
    environment.forget_older(layout)
    return _installed(layout, role)


def go_back(layout: Layout, role: Role, say: Say) -> Installed:
    """Puts the version before in the place of the present one, for all that this machine is. A device's database goes to where that version knows it;
    a server's stays, for every version serves on the next one's. Raises OperatorError, and then the present version is in use.
    """
    services_of(layout).demand()
    with alone(layout):
        return _go_back(layout, role, say)


def _go_back(layout: Layout, role: Role, say: Say) -> Installed:
    now, older = environment.present(layout), environment.before(layout)
    if now is None or older is None:
        raise OperatorError("There is no version before the present one.")
    roles = [one for one in layout.roles.values() if layout.has(one)]
    if SERVER in roles:
        _demand_servable(now, older)
    say("backing up")
    for one in roles:
        _back_up(layout, one, now)
    for one in roles:
        services_of(layout).pause(one)
    try:
        if layout.device in roles:
            _take_database_back(layout, now, older)
        _go_on(layout, roles, older, say)
    except BaseException:  # Ctrl-C too: what is stopped here, nobody else starts
        _go_on(layout, roles, now, say)
        raise
    environment.end(layout)
    return _installed(layout, role)


def _demand_servable(now: Path, older: Path) -> None:
    """A server's database is at most one migration ahead of the older version (docs/migrations.md). Raises OperatorError."""
    ahead = [name for name in _migrations(now, "cloud") if name not in _migrations(older, "cloud")]
    if len(ahead) > 1:
        raise OperatorError(
            f"The database has {len(ahead)} migrations that version {environment.version_of(older)} does not know, and it serves on one: "
            "docs/migrations.md says how they are taken back; then install that version by --wheel."
        )


def _take_up(layout: Layout, roles: Sequence[Role], folder: Path) -> bool:
    """Has the machine use this version, and its units. Returns whether any unit was another."""
    services = services_of(layout)
    environment.use(layout, folder)
    changed = [services.place_units(layout, role, folder) for role in roles]
    for role in roles:
        services.make_account(role)
    services.reload()
    return any(changed)


def _go_on(layout: Layout, roles: Sequence[Role], folder: Path, say: Say) -> None:
    _take_up(layout, roles, folder)
    for role in roles:
        _run(layout, role, say, again=False)


def _take_back(layout: Layout, roles: list[Role], failed: Path, before: Path) -> None:
    """After an upgrade whose service does not start; what it may have done to a device's database goes back too."""
    for role in roles:
        services_of(layout).pause(role)
    try:
        if layout.device in roles:
            _take_database_back(layout, failed, before)
    finally:
        _go_on(layout, roles, before, lambda sentence: None)


def _environment(layout: Layout, source: Source | None, roles: list[Role], say: Say) -> Path:
    present = environment.present(layout)
    if source is None:
        if present is None:
            raise OperatorError("Nothing is installed yet: name the wheel with --wheel; `make build` makes it.")
        return present
    say("making the environment; this takes about a minute")
    return environment.make_environment(layout, source, "cloud" if SERVER in roles else "")


def _place_settings(layout: Layout, role: Role, folder: Path) -> None:
    """Settings that are there are never touched, so they are there whole or not at all."""
    layout.config.parent.mkdir(parents=True, exist_ok=True)
    if not layout.config.exists():
        text = shipped(folder, "config.toml").read_text("utf-8")
        # The units say both to the services; commands that a person runs have only this file, and must find the same state and registers.
        for name, place in (("state_dir", layout.device.state), ("erasures_file", f"{SERVER.state}/erasures.jsonl")):
            text = text.replace(f'{name} = ""', f'{name} = "/{place}"', 1)
        _write(layout.config, text, _SETTINGS_MODE)
    if role is SERVER and not layout.database_address.exists():
        _write(layout.database_address, _ENV_TEXT, _SECRET_MODE)


def _write(path: Path, text: str, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode)
    fresh.write_text(text, "utf-8")
    fresh.rename(path)


def _run(layout: Layout, role: Role, say: Say, *, again: bool) -> None:
    if role is SERVER and not _has_address(layout):
        say(f"write the address of the database into {layout.database_address}, then: systemctl enable --now {' '.join(role.start)}")
        return
    say(f"starting {role.main_unit}")
    services_of(layout).start(role)
    if again:
        services_of(layout).restart(role)


def _has_address(layout: Layout) -> bool:
    """Whether a server has been told where its database is."""
    return "\nDATABASE_URL=" in f"\n{layout.database_address.read_text('utf-8')}"


def _back_up(layout: Layout, role: Role, version: Path) -> None:
    """Whoever has nothing to lose needs none. A device's is made by this version: that which is in use may not run any more."""
    if role is SERVER:
        if not _has_address(layout):
            return
        run(["systemctl", "start", "carrel-cloud-backup.service"], otherwise="Nothing was changed, because there is no backup")
    elif layout.database.exists():
        run(
            [*services_of(layout).as_account(layout.device), version / "bin" / "carrel", "backup"],
            _device_environ(layout),
            otherwise="Nothing was changed, because there is no backup",
        )


def _take_database_back(layout: Layout, now: Path, older: Path) -> None:
    """By the present version, which knows how its own migrations are taken back; a version that knows more brings it up itself. Raises
    OperatorError for one that cannot be.
    """
    known = _migrations(older, "device")
    if set(_migrations(now, "device")) - set(known) and layout.database.exists():
        migrate: list[str | Path] = [now / "bin" / "carrel-migrate", "--db", "device", "--sqlite", layout.database]
        run(
            [*services_of(layout).as_account(layout.device), *migrate, "downgrade", known[-1], "--yes"],
            _device_environ(layout),
            otherwise="The database cannot be taken back, so the version stays",
        )


def _migrations(folder: Path, kind: str) -> list[str]:
    """The migrations that a version ships for `device` or `cloud`, in order. Raises OperatorError."""
    ask = f"from migrations.files import shipped_files; print(*(file.name for file in shipped_files({kind!r})))"
    return run([folder / "bin" / "python", "-c", ask], otherwise="The version cannot be asked").split()


def _device_environ(layout: Layout) -> dict[str, str]:
    return {"PATH": os.defpath, "CARREL_CONFIG": str(layout.config), "CARREL_DEVICE_STATE_DIR": str(layout.state(layout.device))}


def _installed(layout: Layout, role: Role) -> Installed:
    now, older = environment.present(layout), environment.before(layout)
    running = services_of(layout).states([role.main_unit])[role.main_unit].get("ActiveState") == "active"
    return Installed(role.name, environment.version_of(now) if now else "none", environment.version_of(older) if older else None, running)
