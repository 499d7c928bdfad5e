"""What worlds cost in processor time, which does not depend on what else the machine does."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import psycopg2

PROC = Path("/proc")
# Fields of /proc/PID/stat (proc(5)), counted from the one after the command's name.
_PARENT, _USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM = 1, 11, 12, 13, 14


def postgres_s(url: str) -> float | None:
    """Processor seconds that all processes of a PostgreSQL have used until now; None where that cannot be told, as on another machine."""
    with closing(psycopg2.connect(url)) as connection:
        stat = _stat(connection.info.backend_pid)
    if stat is None:
        return None
    postmaster = int(stat[_PARENT])
    own = _stat(str(postmaster))
    processes = [
        stat for entry in PROC.iterdir() if entry.name.isdigit() and (stat := _stat(entry.name)) and int(stat[_PARENT]) == postmaster
    ]
    ticks = sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in processes)
    if own is not None:
        ticks += sum(int(own[field]) for field in (_USER, _SYSTEM, _CHILDREN_USER, _CHILDREN_SYSTEM))
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(process: str | int) -> list[str] | None:
    """What the system says of a process; None when there is none."""
    try:
        text = (PROC / str(process) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
