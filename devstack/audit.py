"""Known flaws in the packages of constraints.lock: `python -m devstack.audit`, the part of `make check` that needs the network.

pip-audit asks about each package, and what it has been told is judged here, strictly: it passes when the service has spoken about every pinned version
and knows no flaw of any. No answer, half an answer or a warning is a failure, never a pass. So that a service that knows nothing cannot pass for one that
has found nothing, it is asked about a package with famous flaws as well.

Asked is the Python Package Index, which says so when it does not know a package. CARREL_AUDIT_URL names a service with the protocol of OSV
(google.github.io/osv.dev/post-v1-query) instead, for networks that reach only one of their own; to that, an unknown package is one without flaws.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement
from packaging.utils import canonicalize_name

from devstack.dependencies import LOCK, pinned
from domain.errors import OperatorError

# For one answer, and for all of them: they are asked for one after the other.
ANSWER_TIMEOUT_S = 15
AUDIT_TIMEOUT_S = 300
# Nobody installs it; it has dozens of known flaws, among them one through which a picture runs code. pip-audit wants some hash beside hashes.
WITNESS, WITNESS_VERSION = "pillow", "8.0.0"
_WITNESS_LINE = f"{WITNESS}=={WITNESS_VERSION} --hash=sha256:{'0' * 64}\n"
# Flaws that do not concern us, or that nobody has mended yet, by any of their ids: why we live with them, and until when.
ACCEPTED: Mapping[str, str] = {}
_LOGGED_BY = re.compile(r"^(?:ERROR|WARNING):[\w.]+:")

_NOT_LOOKED_UP = (
    "The packages were not all looked up, which counts as a flaw: {reason} Where there is no network, `make check-offline` is everything else of the gate; "
    "run `make audit` when there is one."
)


def ask(lock: Path, service: str = "", answer_timeout_s: int = ANSWER_TIMEOUT_S) -> Any:
    """What pip-audit reports in JSON about the packages of `lock` and WITNESS. `service` is an address with OSV's protocol; empty is the Package Index.

    Raises OperatorError when there is no report, or one with a warning.
    """
    with TemporaryDirectory() as scratch:
        witness = Path(scratch, "witness.txt")
        witness.write_text(_WITNESS_LINE)
        command = [sys.executable, "-m", "pip_audit", "--strict", "--disable-pip", "--format", "json", "--desc", "on", "--aliases", "on"]
        command += ["--progress-spinner", "off", "--timeout", str(answer_timeout_s), "--cache-dir", scratch]
        command += ["--vulnerability-service", "osv", "--osv-url", _safe(service)] if service else ["--vulnerability-service", "pypi"]
        try:
            done = subprocess.run(
                [*command, "--requirement", lock, "--requirement", witness],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=AUDIT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OperatorError(_NOT_LOOKED_UP.format(reason=f"it took longer than {AUDIT_TIMEOUT_S} s.")) from error
    # It exits with 1 for a flaw as for an accident; only what it printed tells them apart.
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise OperatorError(_NOT_LOOKED_UP.format(reason=_reason(done.stderr))) from error
    if "WARNING:" in done.stderr:  # a flaw in a form that pip-audit does not understand is one of these
        raise OperatorError(_NOT_LOOKED_UP.format(reason=_reason(done.stderr)))
    return report


def problems(report: Any, pins: Mapping[str, str], accepted: Mapping[str, str] = ACCEPTED) -> Iterator[str]:
    """What is wrong, a sentence each: flaws that are not `accepted`, pins about which nothing was said, a service that knows nothing.

    `report` is pip-audit's, `pins` are versions by canonical name. Raises OperatorError for a report of another form.
    """
    try:
        told: dict[tuple[str, str], Any] = {
            (canonicalize_name(entry["name"]), entry["version"]): entry["vulns"] for entry in report["dependencies"] if "version" in entry
        }
        if not told.get((WITNESS, WITNESS_VERSION)):
            yield f"The service knows no flaw of {WITNESS} {WITNESS_VERSION}, which has many: what it says about others is worth nothing."
        unused = dict(accepted)
        for name, version in sorted(pins.items()):
            if (flaws := told.get((name, version))) is None:
                yield f"{name} {version} was not looked up."
            for flaw in flaws or ():
                ids = [flaw["id"], *flaw["aliases"]]
                if any(unused.pop(known, None) or known in accepted for known in ids):
                    continue
                mended = ", ".join(flaw["fix_versions"]) or "no version yet"
                yield f"{name} {version} has a known flaw, {' = '.join(ids)}, mended in {mended}: {flaw['description']}"
        for known in unused:
            yield f"{known} is accepted in devstack/audit.py, and no package has it any more."
    except (KeyError, TypeError, AttributeError) as error:
        raise OperatorError(f"pip-audit's report is not of the form that this version knows ({error!r}).") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Tells what is wrong on standard error; 1 when anything is."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack.audit", description="Known flaws in the packages that constraints.lock names."
    )
    parser.add_argument("lock", type=Path, nargs="?", default=LOCK, help="a requirements file with hashes")
    parser.add_argument("--service", default=os.environ.get("CARREL_AUDIT_URL", ""), help="an address with OSV's protocol")
    parser.add_argument("--answer-timeout-s", type=int, default=ANSWER_TIMEOUT_S)
    chosen = parser.parse_args(arguments)
    try:
        pins = pinned(chosen.lock.read_text())
        found = list(problems(ask(chosen.lock, chosen.service, chosen.answer_timeout_s), pins))
    except (OperatorError, InvalidRequirement) as error:
        found = [str(error)]
    for sentence in found:
        sys.stderr.write(f"{sentence}\n")
    return 1 if found else 0


def _safe(service: str) -> str:
    """Raises OperatorError for an address at which anybody on the way could say that all is well."""
    parts = urlsplit(service)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        return service
    raise OperatorError("CARREL_AUDIT_URL must begin with https://, or name this machine.")


def _reason(said: str) -> str:
    """The last line of pip-audit's standard error that says something; of a traceback, the error that it ends with."""
    lines = [
        _LOGGED_BY.sub("", line).strip()
        for line in said.splitlines()
        if _LOGGED_BY.match(line) or (": " in line and not line.startswith(" "))
    ]
    return f"{lines[-1]}." if lines else "pip-audit said nothing."


if __name__ == "__main__":
    sys.exit(main())
