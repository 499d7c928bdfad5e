"""The command lines of the programs that keep a large table up: one PostgreSQL, work that may be repeated, and what it came to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable

from domain.errors import CarrelError
from migrations.engines import Limits, PostgresEngine
from migrations.waiting import Activity, waiting_on_stderr

# Does the work, and gives the names of what it made.
Work = Callable[[PostgresEngine, Limits, Activity], Iterable[str]]


def upkeep_parser(module: str, documentation: str | None) -> argparse.ArgumentParser:
    """Of `python -m MODULE`, with `--url`; the module's documentation begins with what it is for."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(documentation or "").split("\n\n")[0])
    parser.add_argument("--url", default=os.environ.get("DATABASE_URL"), help="postgresql://…; otherwise DATABASE_URL")
    return parser


def carry_out(parser: argparse.ArgumentParser, url: str | None, verb: str, work: Work) -> int:
    """Does the work, and prints `VERB NAME` for all that it made, or why it could not. Returns the exit code (domain/errors.py)."""
    if not url:
        parser.error("give --url postgresql://…, or set DATABASE_URL")
    limits = Limits()
    engine = PostgresEngine(url, limits)
    try:
        with waiting_on_stderr() as waiting:
            names = work(engine, limits, waiting)
        for name in names:
            print(f"{verb} {name}")
    except CarrelError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    finally:
        engine.close()
    return 0
