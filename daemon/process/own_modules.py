"""Modules of ours that are run in a process of their own, because what they import would stay in the daemon's memory ever after."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SOURCE_ROOT = Path(__file__).parents[2]


def command(module: str, *arguments: str) -> list[str]:
    """`python -m MODULE ARGUMENTS` with the Python of this process."""
    return [sys.executable, "-m", module, *arguments]


def environ() -> dict[str, str]:
    """What such a process is run with: it finds our packages wherever it is started, whether Carrel is installed or not."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_SOURCE_ROOT), os.environ.get("PYTHONPATH")]))}
