"""Wheels to install from: Carrel's own, built from a copy of the sources, and those of the libraries that the tests run with, put together again."""

from __future__ import annotations

import configparser
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("setup.cfg", "pyproject.toml", "config.toml", "device.lock", "server.lock")
BUILD_MAX_S = 100


def build_wheel(
    folder: Path, version: str | None = None, change: Callable[[Path], object] = lambda source: None, wheels: Path | None = None
) -> Path:
    """Builds the wheel in `folder`, from a copy, so that the working tree stays as it is; as another version, and changed, if that is given.

    With `wheels`, its locks name the files of that folder, which `put_together` has filled.
    """
    source = folder / f"source-{version or 'own'}"
    for name in (*packages(), "systemd"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    if version:
        text = (source / "setup.cfg").read_text("utf-8")
        (source / "setup.cfg").write_text(re.sub(r"^version = .*$", f"version = {version}", text, count=1, flags=re.MULTILINE), "utf-8")
    if wheels is not None:
        lock(wheels, source / "device.lock", source / "server.lock")
    change(source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source / "dist")]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=BUILD_MAX_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = (source / "dist").glob("*.whl")
    return built


def packages() -> list[str]:
    """The folders that the wheel is made of."""
    return [line.rstrip("*") for line in _setup()["options.packages.find"]["include"].split()]


def put_together(folder: Path, *extras: str) -> None:
    """Writes wheels of everything that Carrel requires, from what is installed here: a package index for machines without a network."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Distribution] = {}
    wanted = _required_by_carrel(*extras)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = distribution(name)
        wanted += [required for required, extra in _requirements(found[name]) if not extra and _is_here(required)]
    for one in found.values():
        _write(one, folder)


def lock(folder: Path, *files: Path) -> None:
    """Writes what `make lock` would if these wheels were the index."""
    lines = []
    for wheel in folder.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        if name != "carrel":
            lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    for file in files:
        file.write_text("".join(lines))


def _required_by_carrel(*extras: str) -> list[str]:
    """As setup.cfg says, since what is installed for the tests may be older."""
    config = _setup()
    lines = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    return [_name(line) for line in "\n".join(lines).splitlines() if line.strip() and not line.startswith("#")]


def _setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement.strip())
    assert match, requirement
    return match[0].lower().replace("_", "-")


def _requirements(one: Distribution) -> list[tuple[str, str]]:
    """(name, extra that asks for it)."""
    return [(_name(text), extra[1] if (extra := re.search(r"extra == ['\"]([^'\"]+)", text)) else "") for text in one.requires or []]


def _is_here(name: str) -> bool:
    """What another system or Python would need is not."""
    try:
        distribution(name)
    except ModuleNotFoundError:
        return False
    return True


def _write(one: Distribution, folder: Path) -> None:
    tag = re.search(r"^Tag: (\S+)", one.read_text("WHEEL") or "", re.MULTILINE)
    assert tag and one.files, one.name
    files = [file for file in one.files if ".." not in file.parts and "__pycache__" not in file.parts]
    record = next(file for file in files if file.name == "RECORD" and file.parent.name.endswith(".dist-info"))
    name = record.parent.name.removesuffix(".dist-info")
    with zipfile.ZipFile(folder / f"{name}-{tag[1]}.whl", "w") as wheel:
        for file in files:
            if file.name not in ("INSTALLER", "REQUESTED", "direct_url.json") and file != record:
                wheel.write(str(file.locate()), str(file))
        wheel.writestr(str(record), "".join(f"{file},,\n" for file in files))
