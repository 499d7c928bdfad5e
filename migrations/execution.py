"""Running migration files one after the other: each again while other transactions block it, all under one way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from domain.clock import Clock
from domain.errors import CarrelError, PostgresUnavailable, SchemaError, Unavailable
from migrations.engines import Engine, Limits, first_line
from migrations.history import Direction, HistoryRow
from migrations.protection import Protection
from migrations.router import SafeRouter
from migrations.waiting import Activity


@dataclass(frozen=True)
class Applied:
    """One migration that was applied (`up`) or taken back (`down`)."""

    name: str
    direction: Direction
    duration_ms: int


class Progress(NamedTuple):
    """Told before each file, with `done` None, and after it. `position` counts from 1 to `total`."""

    name: str
    position: int
    total: int
    done: Applied | None


ProgressCallback = Callable[[Progress], None]


class Execution:
    """Of the files of one database, by its router: a new one for every file and every attempt. To be used under `engine.locked()`."""

    def __init__(
        self,
        engine: Engine,
        router: Callable[[], SafeRouter],
        limits: Limits,
        clock: Clock,
        protection: Protection | None,
        activity: Activity,
    ) -> None:
        self._engine = engine
        self._router = router
        self._limits = limits
        self._clock = clock
        self._protection = protection
        self._activity = activity

    def run(
        self, rows: Sequence[HistoryRow], names: Sequence[str], direction: Direction, progress: ProgressCallback | None = None
    ) -> list[Applied]:
        """Runs the files `names` in this order, on a database whose history is `rows`. Returns what was done, in order.

        Raises SchemaError for a file that fails, Unavailable when table locks could not be had, PostgresUnavailable when the
        connection was lost, OperatorError when there could be no way back.
        """
        tell = progress or (lambda _: None)
        done: list[Applied] = []
        with self._protected([row.name for row in rows], names, direction):
            for position, name in enumerate(names, 1):
                tell(Progress(name, position, len(names), None))
                with self._activity.during(f"{name} ({position} of {len(names)})"):
                    done.append(self._run(name, direction))
                tell(Progress(name, position, len(names), done[-1]))
        return done

    @contextmanager
    def _protected(self, applied: Sequence[str], names: Sequence[str], direction: Direction) -> Iterator[None]:
        if self._protection is None:
            yield
        elif names:
            with self._protection.around(applied, direction):
                yield
        else:
            self._protection.settle()
            yield

    def _run(self, name: str, direction: Direction) -> Applied:
        """Run one file, again and again while other transactions block it."""
        started_ms = self._clock.monotonic_ms()
        blocked: Exception | None = None
        for attempt in range(1, self._limits.attempts + 1):
            if attempt > 1:
                time.sleep(self._limits.retry_pause_s)
            router = self._router()
            try:
                router.run_one(name, router.migrator, fake=False, downgrade=direction == "down")
            except Exception as error:
                if self._engine.is_lost():
                    raise PostgresUnavailable(f"The connection was lost during {name}; `current` tells whether it was applied.") from error
                if not self._engine.is_blocked(error):
                    raise _explained(name, error, in_parts=router.in_parts) from error
                blocked = error
            else:
                return Applied(name, direction, self._clock.monotonic_ms() - started_ms)
        message = f"{name} could not lock its tables in {self._limits.attempts} attempts: try again when there is less traffic."
        raise Unavailable(message) from blocked


def _explained(name: str, error: Exception, *, in_parts: bool) -> SchemaError:
    reason = error.message if isinstance(error, CarrelError) else first_line(error) or type(error).__name__
    if isinstance(error, IndexError):  # psycopg2 takes a single percent sign for a parameter that is missing
        reason += " (in SQL for PostgreSQL a percent sign is written %%)"
    outcome = "what it did before that stays, and upgrade will run it again" if in_parts else "nothing of it was kept"
    return SchemaError(f"{name} failed, {outcome}: {reason.rstrip('.')}.")
