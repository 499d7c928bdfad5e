"""What the environment is built of, held against constraints.txt: `python -m devstack.dependencies`, a part of `make check`.

Every package that Carrel needs, directly or through others, is pinned there, is installed in that version, and has a licence of the list below; nothing is
pinned that nobody needs. constraints.lock, which `make lock` writes, has the same versions, each with the hashes of its files; device.lock and server.lock, by
which `carrel service install` installs, have of them what a device and a server need. A package that cannot be judged is a problem, not a pass. What somebody
has installed besides is left alone.

Known flaws of packages are another question, which needs the network: devstack/audit.py.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path
from typing import cast

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
LOCK = CONSTRAINTS.with_suffix(".lock")
SETUP = CONSTRAINTS.with_name("setup.cfg")
ROOT, EXTRAS = "carrel", ("cloud", "embedded", "dev")
# What is installed as a service, with these extras.
SERVICE_LOCKS = {"device.lock": (), "server.lock": ("cloud",)}

# SPDX identifiers, the parts of an expression each for itself. The LGPL's psycopg2 and the MPL's packages are used as they are, in files of their own.
ALLOWED_LICENCES = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "LGPL-3.0-or-later", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Unlicense"}
)
# Older metadata says it in a classifier.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Metadata that names none, or in words; somebody has read the licence file.
_READ = {
    "axe-playwright-python": "MIT",
    "charset-normalizer": "MIT",
    "peewee": "MIT",
    "psutil": "BSD-3-Clause",
    "python-dotenv": "BSD-3-Clause",
    "watchdog": "Apache-2.0",
}


_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package: its version, what it requires (as its metadata says it), and its licences as SPDX identifiers."""

    version: str
    requires: Sequence[str] = ()
    licences: frozenset[str] = frozenset()


def problems(pins: Mapping[str, str], installed: Mapping[str, Package]) -> Iterator[str]:
    """What is wrong, a sentence each. Names are canonical; ROOT is among those installed."""
    needed, ever_needed = closure(installed, markers=True), closure(installed, markers=False)
    for name in sorted(needed - {ROOT}):
        if name not in pins:
            yield f"{name} is needed and not pinned in constraints.txt."
        if (package := installed.get(name)) is None:
            yield f"{name} is needed and not installed."
            continue
        if name in pins and package.version != pins[name]:
            yield f"{name} is installed as {package.version} and pinned as {pins[name]}."
        licences = frozenset({_READ[name]}) if name in _READ else package.licences
        if not licences or not licences <= ALLOWED_LICENCES:
            yield f"{name} has a licence that nobody has allowed: {', '.join(sorted(licences)) or 'none is named'}."
    for name in sorted(set(pins) - ever_needed):
        yield f"{name} is pinned in constraints.txt and not needed."


def closure(installed: Mapping[str, Package], *, markers: bool, extras: Sequence[str] = EXTRAS) -> set[str]:
    """Everything that ROOT with these extras needs: on this machine, or, without `markers`, on any. Raises InvalidRequirement."""
    found, waiting = set[tuple[str, str]](), [(ROOT, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for text in installed[name].requires if name in installed else ():
            requirement = Requirement(text)
            if _applies(requirement, extra, markers=markers):
                waiting += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return {name for name, _ in found}


def _applies(requirement: Requirement, extra: str, *, markers: bool) -> bool:
    if requirement.marker is None:
        return extra == ""
    if markers:
        return requirement.marker.evaluate({"extra": extra})
    # On whatever machine: only an extra that is not wanted stands in the way.
    return "extra" not in str(requirement.marker) or (extra != "" and f'extra == "{extra}"' in str(requirement.marker))


def out_of_step(pins: Mapping[str, str], lock: str, file: str = LOCK.name, needed: Collection[str] | None = None) -> Iterator[str]:
    """Where a text with hashes does not hold exactly these versions, or those of what is `needed`, or one of them has no hash. Raises InvalidRequirement."""
    locked = pinned(lock)
    for name in sorted({*(pins if needed is None else needed), *locked}):
        if pins.get(name) != locked.get(name):
            yield f"{name} is {pins.get(name, 'not pinned')} in constraints.txt and {locked.get(name, 'missing')} in {file}: `make lock` writes it anew."
    for entry in _entries(lock):
        if not _HASH.search(entry):
            yield f"{entry} has no hash in {file}: `make lock` writes it anew."


def service_locks_out_of_step(pins: Mapping[str, str], installed: Mapping[str, Package]) -> Iterator[str]:
    """The same of the locks by which services are installed. Raises InvalidRequirement."""
    for file, extras in SERVICE_LOCKS.items():
        needed = closure(installed, markers=True, extras=extras) - {ROOT}
        yield from out_of_step(pins, CONSTRAINTS.with_name(file).read_text(), file, needed)


def _entries(text: str) -> Iterator[str]:
    """The entries of a requirements file: without comments, each in one line."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if entry := line.partition("#")[0].strip():
            yield entry


def pinned(text: str) -> dict[str, str]:
    """The versions of a constraints file, with hashes or without, by canonical name. Raises InvalidRequirement for a line that pins no version."""
    pins = dict[str, str]()
    for line in (_HASH.sub("", entry).strip() for entry in _entries(text)):
        requirement = Requirement(line)
        (exact, *others) = [*requirement.specifier, None]
        if exact is None or others != [None] or exact.operator != "==" or "*" in exact.version:
            raise InvalidRequirement(f"{line} pins no version")
        pins[canonicalize_name(requirement.name)] = exact.version
    return pins


def required(text: str) -> list[str]:
    """What a setup.cfg requires, in the form of metadata: those of an extra have its marker."""
    config = ConfigParser()
    config.read_string(text)
    always = config["options"]["install_requires"].split("\n")
    by_extra = [(line, extra) for extra, lines in config["options.extras_require"].items() for line in lines.split("\n")]
    plain = [line for line in always if line and not line.startswith("#")]
    return plain + [f'{line} ; extra == "{extra}"' for line, extra in by_extra if line and not line.startswith("#")]


def _installed() -> dict[str, Package]:
    """The packages of this environment, and ROOT as setup.cfg has it: what is installed of it may be older than that."""
    found: dict[str, Package] = {}
    for distribution in distributions():
        metadata = cast(Message, distribution.metadata)
        expression = metadata.get("License-Expression") or ""
        named = {word for word in expression.replace("(", " ").replace(")", " ").split() if word not in ("AND", "OR")}
        classifiers = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
        licences = named or {_CLASSIFIERS.get(text, text) for text in classifiers if text != "DFSG approved"}
        if not licences and metadata.get("License"):
            licences = {str(metadata["License"]).splitlines()[0]}
        found[canonicalize_name(metadata["Name"])] = Package(distribution.version, distribution.requires or (), frozenset(licences))
    return found | {ROOT: Package("", required(SETUP.read_text()))}


def main() -> int:
    """Tells what is wrong on standard error; 1 when anything is."""
    try:
        pins = pinned(CONSTRAINTS.read_text())
        installed = _installed()
        found = [*problems(pins, installed), *out_of_step(pins, LOCK.read_text()), *service_locks_out_of_step(pins, installed)]
    except InvalidRequirement as error:
        found = [f"A requirement cannot be read: {error}."]
    for sentence in found:
        sys.stderr.write(f"{sentence}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
