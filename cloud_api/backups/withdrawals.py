"""What was withdrawn at this server, in a register outside the database, so that no restored backup gives it back: the access of devices that were
revoked, grants that were ended, passwords that were replaced, the accounts of people who left, and the uses of enrolment codes.

A line for each, as JSON; of one device or person the latest. Everything in it can be told from the database that it happened in, so the register is
made complete from there: after each withdrawal, and by `carrel-cloud tidy` and `backup`. It lies beside the register of erasures
(cloud_api/erasure/register.py), and is read with it by `carrel-cloud restore`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from cloud_api import register_file
from cloud_api.database import CloudDatabase, Cursor, one_row
from cloud_api.devices import enrolled
from cloud_api.devices.auth import Revocation
from domain.clock import Clock
from domain.errors import CarrelError
from domain.ids import IdSource, is_id

FILE_NAME = "withdrawals.jsonl"
NAME = "register of withdrawals"

log = logging.getLogger("carrel.cloud")


class Entry(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One withdrawal: ids in internal form, UTC ms. `order` is what a revoked device is told; of a code `at_ms` is when it expires, and `uses_left` how
    many of its uses are left.
    """

    school_id: str
    subject_id: str
    kind: Literal["device", "grant", "password", "account", "code"]
    at_ms: int
    order: str = ""
    uses_left: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was withdrawn again in a restored database: how many devices were revoked, and the names of those who need another password."""

    devices: int = 0
    usernames: tuple[str, ...] = ()

    def and_also(self, other: Withdrawn) -> Withdrawn:
        """Both together."""
        return Withdrawn(self.devices + other.devices, tuple(sorted({*self.usernames, *other.usernames})))


class Told(NamedTuple):
    """What time a restored school tells of, UTC ms: the first entry of its audit log, and the last thing that is written down in it; None for none."""

    first_ms: int | None = None
    last_ms: int | None = None


def entries(cursor: Cursor) -> list[Entry]:
    """Everything that a database knows to be withdrawn. Of passwords as long as the audit log says when they were set."""
    cursor.execute(
        "SELECT school_id, id, 'device', revoked_at_ms, coalesce(revocation, %s), 0 FROM devices WHERE revoked_at_ms IS NOT NULL"
        " UNION ALL SELECT g.school_id, g.id, 'grant', g.ended_at_ms, '', 0 FROM device_grants g"
        "  JOIN devices d ON d.school_id = g.school_id AND d.id = g.device_id WHERE g.ended_at_ms IS NOT NULL AND d.revoked_at_ms IS NULL"
        " UNION ALL SELECT school_id, replace(subject, '-', '')::uuid, 'password', max(at_ms), '', 0 FROM audit_log"
        "  WHERE action = 'user.password_set' GROUP BY 1, 2"
        " UNION ALL SELECT school_id, id, 'code', expires_at_ms, '', uses_left FROM enrolment_codes"
        " UNION ALL SELECT school_id, id, 'account', retired_at_ms, '', 0 FROM users WHERE retired_at_ms IS NOT NULL AND password_hash IS NOT NULL",
        (str(Revocation.LOCK),),
    )
    return [Entry(*row) for row in cursor.fetchall()]


def read(path: Path) -> list[Entry]:
    """The entries of a register; none where there is no file. Raises OperatorError for one that cannot be read."""
    return register_file.read(path, Entry, NAME, _is_sound)


def _is_sound(entry: Entry) -> bool:
    ids = is_id(entry.school_id) and is_id(entry.subject_id)
    return ids and entry.uses_left >= 0 and (entry.kind != "device" or entry.order in list(Revocation))


def complete(path: Path, known: Iterable[Entry]) -> None:
    """Adds what a register lacks of `known`, the later of two entries about one subject being kept. Raises OperatorError."""
    known = list(known)

    def change() -> Sequence[Entry] | None:
        before = read(path)
        whole = latest([*before, *known])
        return whole if whole != sorted(before) else None

    register_file.update(path, NAME, change)


def latest(known: Iterable[Entry]) -> list[Entry]:
    """One entry a subject and kind: the latest; of a device the order that goes furthest, of a code the fewest uses."""
    kept: dict[tuple[str, str, str], Entry] = {}
    for entry in sorted(known, key=lambda e: e.at_ms):
        key = (entry.school_id, entry.subject_id, entry.kind)
        before = kept.get(key)
        if before:
            order = max(entry.order, before.order, key=_reach)
            entry = msgspec.structs.replace(entry, order=order, uses_left=min(entry.uses_left, before.uses_left))
        kept[key] = entry
    return sorted(kept.values())


def _reach(order: str) -> int:
    steps = [str(step) for step in Revocation]
    return steps.index(order) if order in steps else -1


def keep(path: Path, database: CloudDatabase) -> None:
    """Makes the register complete from the database. Raises OperatorError, Unavailable."""
    with database.transaction(read_only=True) as cursor:
        known = entries(cursor)
    complete(path, known)


class Keeper:
    """The same for a server at work: what was withdrawn is withdrawn whether or not this succeeds, and the log says so. Whoever comes while another
    thread is at it waits, and the next run is for all of them: a class that enrols at the same time has the register written twice or so.
    """

    def __init__(self, path: Path, database: CloudDatabase) -> None:
        self._path, self._database = path, database
        self._numbers = count(1)  # of calls and of runs, as they begin
        self._turn = threading.Lock()
        self._last_run = 0

    def keep_or_tell(self) -> None:
        """Returns when the register was made complete from what is in the database by now, or the log says that it was not."""
        call = next(self._numbers)
        with self._turn:
            if call < self._last_run:
                return  # it began after what this call is about was committed
            run = next(self._numbers)
            try:
                keep(self._path, self._database)
            except CarrelError as error:
                log.error("the register of withdrawals is not complete, until `carrel-cloud tidy` has made it so: %s", error.code)
            self._last_run = run


def told_by(cursor: Cursor) -> dict[str, Told]:
    """How old a restored database is, by school: asked before anything else is done to it, which would make it look younger."""
    cursor.execute(_TOLD)
    return {school: Told(*times) for school, *times in cursor.fetchall()}


def withdraw_again(database: CloudDatabase, clock: Clock, ids: IdSource, known: Iterable[Entry], told: Mapping[str, Told]) -> Withdrawn:
    """Withdraws in a restored database what it does not know to be withdrawn; what it does not have at all is passed over. `told` is what `told_by` said.

    Whoever's password was replaced has none: the one of before must not open anything, and the one of after is nowhere.
    """
    revoked, names = 0, list[str]()
    for entry in sorted(latest(known), key=lambda e: e.kind == "device"):
        if entry.kind == "device":
            revoked += database.retrying(partial(_revoke_again, ids=ids, entry=entry, now_ms=clock.now_ms()))
        elif entry.kind == "code":
            database.retrying(partial(_lower_code, entry=entry))
        elif entry.kind == "grant":
            database.retrying(partial(_end_grant_again, entry=entry))
        elif not _is_older(entry, told.get(entry.school_id, Told())):
            names.append(database.retrying(partial(_forget_password, entry=entry)) or "")
    return Withdrawn(revoked, tuple(sorted({name for name in names if name})))


def _is_older(entry: Entry, told: Told) -> bool:
    """Whether a backup of such an age is one of after the withdrawal, whatever else it says: an account that is open in it is that of somebody who has
    come back. Passwords are told by its audit log, unless they are older than that.
    """
    if entry.kind == "password" and told.first_ms is not None:
        return entry.at_ms < told.first_ms
    return entry.at_ms <= (told.last_ms or 0)


# When the first and the last thing happened that is written down, by school; restorings aside.
_TOLD = """
SELECT s.id, (SELECT min(a.at_ms) FROM audit_log a WHERE a.school_id = s.id AND a.action <> 'server.restored'),
             greatest((SELECT max(a.at_ms) FROM audit_log a WHERE a.school_id = s.id AND a.action <> 'server.restored'),
                      (SELECT max(d.last_seen_ms) FROM devices d WHERE d.school_id = s.id))
  FROM schools s
"""


def _revoke_again(cursor: Cursor, ids: IdSource, entry: Entry, now_ms: int) -> bool:
    cursor.execute(
        "SELECT revoked_at_ms, revocation FROM devices WHERE school_id = %s AND id = %s FOR UPDATE", (entry.school_id, entry.subject_id)
    )
    row = cursor.fetchone()
    if row is None or (row[0] is not None and _reach(row[1] or str(Revocation.LOCK)) >= _reach(entry.order)):
        return False
    enrolled.revoke(cursor, ids, entry.school_id, entry.subject_id, now_ms, reason="restored", order=Revocation(entry.order))
    return True


def _lower_code(cursor: Cursor, entry: Entry) -> None:
    cursor.execute(
        "UPDATE enrolment_codes SET uses_left = %(left)s WHERE school_id = %(school)s AND id = %(code)s AND uses_left > %(left)s",
        {"left": entry.uses_left, "school": entry.school_id, "code": entry.subject_id},
    )


def _end_grant_again(cursor: Cursor, entry: Entry) -> None:
    """As of when it was ended: what the device wrote until then is taken."""
    cursor.execute(
        "UPDATE device_grants SET ended_at_ms = %s WHERE school_id = %s AND id = %s AND ended_at_ms IS NULL",
        (entry.at_ms, entry.school_id, entry.subject_id),
    )


# This very setting of a password, or a later one, is in the backup.
_IS_KNOWN = """
SELECT EXISTS (SELECT FROM audit_log WHERE school_id = %(school)s AND action = 'user.password_set' AND replace(subject, '-', '') = %(subject)s
                  AND at_ms >= %(at)s)
"""
_FORGET = """
UPDATE users SET password_hash = NULL WHERE school_id = %(school)s AND id = %(subject)s AND password_hash IS NOT NULL RETURNING username
"""


def _forget_password(cursor: Cursor, entry: Entry) -> str | None:
    """The name of somebody whose password was forgotten; None where there was nothing to forget."""
    keys = {"school": entry.school_id, "subject": entry.subject_id, "at": entry.at_ms}
    if entry.kind == "password":
        cursor.execute(_IS_KNOWN, keys)
        if one_row(cursor)[0]:
            return None
    cursor.execute(_FORGET, keys)
    row = cursor.fetchone()
    return str(row[0]) if row else None
