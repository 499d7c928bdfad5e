"""The environments below /opt/carrel/versions: one for each wheel, complete or not there, and the links that say which one counts."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from daemon.installation.layout import PROGRAMS, Layout
from daemon.installation.tools import run
from domain.errors import OperatorError

# Says that an environment is complete.
MARKER = ".complete"
HASH_DIGITS = 12
WHEEL_NAME = re.compile(r"carrel-([^-]+)-py3-none-any\.whl")
# The service cannot read these (ProtectHome=): a Python that lies there is of no use to it.
HIDDEN_FOLDERS = (Path("/home"), Path("/root"), Path("/run/user"))
# In the environment: the versions that it may hold, each with the hashes of its files; pip takes nothing else.
_LOCK = "packages.lock"


@dataclass(frozen=True)
class Source:
    """What is installed: the wheel, which Python runs it, and a folder of wheels to take everything from instead of a package index."""

    wheel: Path
    python: Path | None = None
    wheels: Path | None = None


def make_environment(layout: Layout, source: Source, extra: str) -> Path:
    """The environment of this wheel, made unless it is there. Raises OperatorError; then nothing of it is left."""
    match = WHEEL_NAME.fullmatch(source.wheel.name)
    if not match or not source.wheel.is_file():
        raise OperatorError(f"{source.wheel} is not a wheel of Carrel: `make build` makes one in dist/.")
    lock, digest = _lock(source.wheel, match[1], extra), hashlib.sha256(source.wheel.read_bytes()).hexdigest()
    folder = layout.versions / "-".join(filter(None, (match[1], digest[:HASH_DIGITS], extra)))
    # A Python that the system has taken away with an upgrade of its own leaves an environment in which nothing runs.
    if (folder / MARKER).exists() and os.access(folder / "bin" / "python", os.X_OK):
        return folder
    python = source.python or own_python()
    shutil.rmtree(folder, ignore_errors=True)
    layout.versions.mkdir(parents=True, exist_ok=True)
    try:
        # One of its own would cost the environment some seconds, and is of no use later.
        own_pip = importlib.util.find_spec("pip") is not None
        run([python, "-m", "venv", *(["--without-pip"] if own_pip else []), folder], otherwise="The environment cannot be made")
        (folder / _LOCK).write_bytes(lock)
        run([*_pip(folder, own_pip), *_asked(source, extra, digest, folder / _LOCK)], otherwise="The packages cannot be installed")
        (folder / MARKER).write_text(f"{match[1]}\n")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _lock(wheel: Path, version: str, extra: str) -> bytes:
    """The packages that the wheel itself goes with: what runs this may be of another version. Raises OperatorError."""
    name = "server.lock" if extra else "device.lock"
    try:
        with zipfile.ZipFile(wheel) as opened:
            return opened.read(f"carrel-{version}.data/data/share/carrel/{name}")
    except (zipfile.BadZipFile, KeyError) as error:
        raise OperatorError(f"{wheel} is not a wheel of Carrel, or is damaged: {error}.") from error


def own_python() -> Path:
    """The interpreter below the environment that runs this. Raises OperatorError when a service could not use it."""
    python = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    if any(python.is_relative_to(folder) for folder in HIDDEN_FOLDERS):
        raise OperatorError(f"A service cannot use {python}, which lies in a home: name another Python 3.11 or newer with --python.")
    return python


def _pip(folder: Path, own: bool) -> list[str | Path]:
    """The pip that installs into the environment."""
    if own:
        return [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check"]
    return [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]


def _asked(source: Source, extra: str, digest: str, lock: Path) -> list[str | Path]:
    offline: list[str | Path] = ["--no-index", "--find-links", source.wheels] if source.wheels else []
    wheel = f"carrel{f'[{extra}]' if extra else ''} @ {source.wheel.absolute().as_uri()}#sha256={digest}"
    return ["install", "--quiet", *offline, "--require-hashes", "--requirement", lock, wheel]


def begin(layout: Layout) -> tuple[Path | None, bool]:
    """Notes that the machine is being changed. Returns the environment that served before, and whether a change was broken off: what runs may
    then be of it still, whatever the links say.
    """
    note = layout.unfinished
    broken_off = note.exists()
    if not broken_off:
        now = present(layout)
        note.parent.mkdir(parents=True, exist_ok=True)
        fresh = note.with_name(f"{note.name}.new")
        fresh.write_text(now.name if now else "")
        fresh.rename(note)
    name = note.read_text().strip()
    folder = layout.versions / name
    return (folder if name and (folder / MARKER).exists() else None), broken_off


def end(layout: Layout) -> None:
    """The machine is what its links say."""
    layout.unfinished.unlink(missing_ok=True)


def present(layout: Layout) -> Path | None:
    """The environment in use; None before the first."""
    return _target(layout.current)


def before(layout: Layout) -> Path | None:
    """The environment that was in use before it, and is still there."""
    return _target(layout.previous)


def use(layout: Layout, folder: Path) -> None:
    """Makes an environment the present one; the present becomes the one before, unless it is the same."""
    now = present(layout)
    if now not in (None, folder):
        _link(layout.previous, now)
    if now != folder:
        _link(layout.current, folder)
    (layout.prefix / "bin").mkdir(exist_ok=True)
    for name in PROGRAMS:
        _link(layout.program(name), Path("../current/bin") / name)


def forget_older(layout: Layout) -> list[Path]:
    """Removes every environment but the present one and the one before; returns those that are gone."""
    kept = {present(layout), before(layout)}
    gone = [folder for folder in layout.versions.iterdir() if folder not in kept] if layout.versions.is_dir() else []
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    return gone


def version_of(folder: Path) -> str:
    """The version of Carrel in an environment."""
    return folder.name.partition("-")[0]


def _target(link: Path) -> Path | None:
    try:
        folder = link.parent / os.readlink(link)
    except OSError:
        return None
    return folder if (folder / MARKER).exists() else None


def _link(link: Path, target: Path) -> None:
    """Points the link somewhere, at once."""
    if target.is_absolute():
        target = Path(os.path.relpath(target, link.parent))
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
