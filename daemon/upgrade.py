"""Bringing the database to this version's schema before the daemon starts.

peewee-migrate mocks the database for the whole process while it replays files, and stays in memory ever after. So the question "is
anything to be done?" is answered without it, and what is to be done is done by a process that ends: this module, run with the path.

    backup (migrations/backup.py) → every pending file in a transaction of its own → quick_check → is it the schema of this version?

Killed at any point, it leaves a file at one of the migrations, whole, and the next start goes on from there, or puts back the backup with
which it began.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

from daemon.process import logs, own_modules
from domain.errors import AlreadyRunning, CarrelError, OperatorError, SchemaError, Unavailable
from loglines.crashes import tell_crashes
from loglines.parts import fields
from migrations.current import device_is_current

log = logging.getLogger(__name__)

# A table of millions of rows on slow flash takes minutes to rebuild; longer than this is a hang.
UPGRADE_MAX_S = 3600


def upgrade_if_needed(database: Path) -> None:
    """Brings the database at `database` to head, making it if need be. No connection to it may be open in this process.

    Raises SchemaError, AlreadyRunning, Unavailable or OperatorError with the sentence of the migration runner.
    """
    if device_is_current(database):
        return
    log.info("the database is being migrated")
    try:
        done = subprocess.run(
            own_modules.command("daemon.upgrade", str(database), *logs.settings_in_force()),
            stdout=subprocess.PIPE,
            env=own_modules.environ(),
            timeout=UPGRADE_MAX_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SchemaError(f"The migration of {database} did not end within {UPGRADE_MAX_S} s and was stopped: look at the disk.") from error
    except OSError as error:
        raise OperatorError(f"The migration cannot be started with {sys.executable}: {error.strerror}.") from error
    _raise_failure(done.returncode, done.stdout)


def _raise_failure(exit_code: int, report: bytes) -> None:
    if exit_code == 0:
        return
    try:
        problem = json.loads(report)
        kind, message = _KINDS.get(problem["code"], OperatorError), str(problem["message"])
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"The migration ended with exit code {exit_code}: the lines above say why.") from error
    raise kind(message)


_KINDS: dict[str, type[CarrelError]] = {kind.code: kind for kind in (SchemaError, AlreadyRunning, Unavailable)}


def main() -> int:
    """Migrates the database named on the command line; on failure prints {"code", "message"}. Logs to stderr, as the two arguments behind it say."""
    sys.modules["psycopg2"] = None  # type: ignore[assignment]  # peewee imports it where it finds it; 5 MB that no device needs
    from migrations.runner import upgrade_device
    from migrations.waiting import Lines, Waiting, display_on

    path, level, format_ = Path(sys.argv[1]), *sys.argv[2:]
    # Standard output is kept for the report.
    logs.start(level, format_)
    tell_crashes(log)
    logging.getLogger("peewee_migrate").setLevel(logging.WARNING)
    try:
        with Waiting(display_on(sys.stderr) if sys.stderr.isatty() else Lines(log.info)) as waiting:
            steps = upgrade_device(path, activity=waiting)
        for step in steps:
            log.info("migrated", extra=fields(migration=step.name, took_ms=step.duration_ms))
        if not device_is_current(path):
            raise SchemaError(f"{path} was migrated, and still does not have the schema of this version: install Carrel again.")
    except CarrelError as error:
        print(json.dumps({"code": error.code, "message": error.message}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
