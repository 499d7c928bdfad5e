"""A folder in which the processes of one server count together (cloud_api/serving/metrics.py), for as long as the server runs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# prometheus_client decides by it, when it is first imported, how it counts.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


_PREFIX = "carrel-metrics-"


@contextmanager
def counting_together() -> Iterator[None]:
    """For the processes that are forked in the block, unless somebody has named a folder already; before prometheus_client is imported.

    Only the process that made the folder takes it away: those that it forks leave the same block when they end.
    """
    if FOLDER_VARIABLE in os.environ:
        yield
        return
    maker = os.getpid()
    _remove_abandoned()
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{maker}-")
    os.environ[FOLDER_VARIABLE] = folder
    try:
        yield
    finally:
        if os.getpid() == maker:
            shutil.rmtree(folder, ignore_errors=True)
            del os.environ[FOLDER_VARIABLE]


def _remove_abandoned() -> None:
    """Folders of servers that were killed, known by the process in their names."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        with suppress(ValueError, PermissionError):  # another's name; another's process
            try:
                os.kill(int(folder.name.removeprefix(_PREFIX).partition("-")[0]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
