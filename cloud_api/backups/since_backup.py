"""What was ended since a backup was made, and is ended again in the database that was restored from it: students that were erased, access that was
withdrawn, answers that were let go of.

It is known from three places: the registers that the caller has read, those beside the backup, and the database which is to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psycopg2

from cloud_api.backups import withdrawals
from cloud_api.backups.withdrawals import Withdrawn
from cloud_api.clock_doubts import doubts
from cloud_api.config import Database as DatabaseSettings
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.erasure import answers, register
from cloud_api.erasure.erase import erase_again, write_anew
from cloud_api.erasure.rewriting import rewrite
from cloud_api.schools import list_schools
from domain.clock import Clock
from domain.errors import Unavailable
from domain.ids import IdSource

# Nobody waits for a database that is not served yet.
STATEMENT_TIMEOUT_S = 3600

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registers:
    """What is kept outside any database: entries of the registers of erasures and of withdrawals. Answers that came more than `answers_days` ago
    are let go of (0: never)."""

    erased: Iterable[register.Entry] = ()
    withdrawn: Iterable[withdrawals.Entry] = ()
    answers_days: int = 0


class SinceBackup:
    """Everything that is known to have ended, at the time this is made. `url` is the database which is to be replaced; it may be missing.

    Raises OperatorError when a register beside the backup cannot be read.
    """

    def __init__(self, url: str, archive: Path, registers: Registers, clock: Clock, ids: IdSource) -> None:
        self._clock = clock
        self._ids = ids
        # By a clock that may run ahead nothing is let go of: `carrel-cloud tidy` does it when the clock is right.
        clock_is_sound = not _known_in(url, lambda cursor: list(doubts(cursor, clock.now_ms())))
        self._answers_days = registers.answers_days if clock_is_sound else 0
        self._erased = {*registers.erased, *register.read(archive.with_name(register.FILE_NAME)), *_known_in(url, register.entries)}
        beside = withdrawals.read(archive.with_name(withdrawals.FILE_NAME))
        self._withdrawn = withdrawals.latest([*registers.withdrawn, *beside, *_known_in(url, withdrawals.entries)])
        self._told: dict[str, withdrawals.Told] = {}

    def end_again(self, url: str) -> Withdrawn:
        """Ends it in the restored database, before anybody uses it."""
        with _opened(url) as database, database.transaction(read_only=True) as cursor:
            self._told = dict(withdrawals.told_by(cursor))  # before anything that is done here tells of another time
        again = self._withdraw(url, self._withdrawn)
        self._erase(url, {(entry.school_id, entry.student_id): entry for entry in self._erased}.values())
        self._let_answers_go(url)
        return again

    def end_late(self, url: str, replaced_url: str) -> Withdrawn:
        """What was ended in the replaced database while the other was being made. `url` has been put in its place by now."""
        self._erase(url, set(_known_in(replaced_url, register.entries)) - self._erased)
        return self._withdraw(url, set(_known_in(replaced_url, withdrawals.entries)) - set(self._withdrawn))

    def _withdraw(self, url: str, entries: Iterable[withdrawals.Entry]) -> Withdrawn:
        with _opened(url) as database:
            return withdrawals.withdraw_again(database, self._clock, self._ids, sorted(entries), self._told)

    def _erase(self, url: str, entries: Iterable[register.Entry]) -> None:
        with _opened(url) as database:
            if erase_again(database, self._clock, self._ids, sorted(entries)):
                write_anew(database, lambda tables: rewrite(url, tables))

    def _let_answers_go(self, url: str) -> None:
        """As far as one run of `carrel-cloud tidy` would; it goes on with the rest."""
        if not self._answers_days:
            return
        with _opened(url) as database:
            with database.transaction(read_only=True) as cursor:
                schools = [school.id for school in list_schools(cursor)]
            for school_id in schools:
                answers.let_answers_go(database, self._clock, self._ids, school_id, self._answers_days)
            answers.write_anew(database, lambda tables: rewrite(url, tables))


def _opened(url: str) -> closing[CloudDatabase]:
    return closing(CloudDatabase(url, 1, 1, DatabaseSettings(statement_timeout_s=STATEMENT_TIMEOUT_S)))


def _known_in(url: str, entries: Callable[[Cursor], list[T]]) -> list[T]:
    """What a database knows; nothing where there is no such database, or none that can be asked."""
    try:
        with closing(CloudDatabase(url, 1, 1)) as database, database.transaction(read_only=True) as cursor:
            return entries(cursor)
    except (psycopg2.Error, Unavailable):
        return []
