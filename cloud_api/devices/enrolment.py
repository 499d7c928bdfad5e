"""Enrolment: a code that a person types once becomes a device with a token and its grants.

A code carries 60 random bits, expires, and is stored as a hash. With a thousand codes open, each guess is right with a chance of one in 2^50: whoever could
try a thousand a second for the three days that a code is good would meet one with a chance of one in four million. So a right code is always taken, whoever
else has tried what from the same address; only wrong ones wait. It is looked up by its hash, so neither answers nor their times tell how near a guess was.

It is redeemed by one UPDATE that counts a use down, so of any number of
devices that type a single-use code at the same moment exactly one is enrolled. A wrong, an expired and a used code are answered alike.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extras import Json, execute_values

from cloud_api import audit
from cloud_api.database import Cursor, one_row
from cloud_api.devices.replacement import replace
from cloud_api.tokens import HASH_BYTES, new_token, token_hash
from domain.errors import Forbidden, InvalidInput, NotFound, Problem
from domain.ids import Id, IdSource, parse_id
from domain.sealing import KEY_BYTES, PublicKeys
from domain.server_key import MARK
from domain.shown_text import NAME_LENGTH_MAX, is_shown
from domain.wire import APP_VERSION_LENGTH_MAX

# Crockford's base32: no I, L, O or U, so that nothing is misread and no word appears (crockford.com/base32.html).
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_LENGTH = 12
CODE_GROUP = 4
# So much of a code is kept as it is, for people to tell codes apart by; what is left to guess for whoever can read it are 50 bits.
HINT_LENGTH = 2
USES_MAX = 1_000
EXPIRES_H_DEFAULT = 72.0
EXPIRES_H_MAX = 24.0 * 366
_HOUR_MS = 3_600_000
_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")
# What people write for digits that they misread.
_MISREAD = str.maketrans({"I": "1", "L": "1", "O": "0", "-": None, " ": None})


@dataclass(frozen=True, slots=True)
class Grant:
    """What a code gives a device: one student's data, or one class with all its members' data."""

    kind: Literal["class", "student"]
    subject_id: Id


@dataclass(frozen=True, slots=True)
class EnrolledDevice:
    """A device that has just come into being; `token` is known only here and to the device."""

    id: Id
    school_id: Id
    school_name: str
    token: str


def new_code() -> str:
    """A fresh code as people read it: KQ4M-7TXD-2PFH."""
    plain = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    return "-".join(plain[i : i + CODE_GROUP] for i in range(0, CODE_LENGTH, CODE_GROUP))


def code_hash(code: str) -> bytes:
    """What is stored of a code, however it was typed: case, dashes and spaces do not count, nor O for 0 and I or L for 1."""
    plain = code.upper().translate(_MISREAD)
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()


def create_code(
    cursor: Cursor,
    ids: IdSource,
    school_id: str,
    grants: Sequence[Grant],
    uses: int,
    expires_h: float,
    now_ms: int,
    actor: str = audit.OPERATOR,
) -> str:
    """Stores a new code for devices that shall hold `grants`, and returns it; it is shown this once.

    Raises InvalidInput when nothing is granted or `uses` or `expires_h` lie outside their limits.
    """
    problems = []
    if not grants:
        problems.append(Problem("grants", "invalid_value", "A code grants at least one student or class."))
    if not 1 <= uses <= USES_MAX:
        problems.append(Problem("uses", "invalid_value", f"uses must lie between 1 and {USES_MAX}."))
    if not 0 < expires_h <= EXPIRES_H_MAX:
        problems.append(Problem("expires_h", "invalid_value", f"expires_h must lie between 0 and {EXPIRES_H_MAX:g}."))
    if problems:
        raise InvalidInput(problems)
    code, code_id = new_code(), ids.new()
    granted = [{"kind": grant.kind, "subject_id": grant.subject_id} for grant in dict.fromkeys(grants)]
    cursor.execute(
        "INSERT INTO enrolment_codes (school_id, id, code_hash, grants, uses_left, expires_at_ms, created_at_ms, hint, created_by) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            school_id,
            code_id,
            code_hash(code),
            Json(granted),
            uses,
            now_ms + round(expires_h * _HOUR_MS),
            now_ms,
            code[:HINT_LENGTH],
            actor,
        ),
    )
    detail = {"grants": granted, "uses": uses}
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "enrolment_code.created", code_id, detail)
    return code


@dataclass(frozen=True, slots=True)
class OpenCode:
    """A code that can still be used; what it is nobody can be told any more but its beginning, `hint`. `classes` are the names of those that it
    grants, `created_by` is who made it: a name, or `operator` for the command line.
    """

    id: Id
    hint: str
    created_by: str
    classes: list[str]
    students: int
    uses_left: int
    created_at_ms: int
    expires_at_ms: int


_OPEN = """
SELECT e.id, e.hint, coalesce(u.display_name, split_part(e.created_by, ':', 1)), array(SELECT c.name FROM classes c WHERE c.school_id = e.school_id AND c.id IN
             (SELECT (g ->> 'subject_id')::uuid FROM jsonb_array_elements(e.grants) g WHERE g ->> 'kind' = 'class') ORDER BY c.name),
       (SELECT count(*) FROM jsonb_array_elements(e.grants) g WHERE g ->> 'kind' = 'student'),
       e.uses_left, e.created_at_ms, e.expires_at_ms
  FROM enrolment_codes e
  LEFT JOIN users u ON u.school_id = e.school_id AND e.created_by = 'user:' || replace(u.id::text, '-', '')
 WHERE e.school_id = %s AND e.uses_left > 0 AND e.expires_at_ms > %s
 ORDER BY e.created_at_ms DESC, e.id LIMIT %s
"""


def open_codes(cursor: Cursor, school_id: str, now_ms: int, most: int) -> list[OpenCode]:
    """At most so many codes that can still be used, the newest first."""
    cursor.execute(_OPEN, (school_id, now_ms, most))
    return [OpenCode(*row) for row in cursor.fetchall()]


def end_code(cursor: Cursor, ids: IdSource, school_id: str, which: str, now_ms: int, actor: str = audit.OPERATOR) -> None:
    """Ends a code early: nobody enrols by it any more. `which` is the code itself, as it was given out, or its id.

    Raises NotFound where the school has no such code that can still be used.
    """
    try:
        id_: Id | None = parse_id(which)
    except ValueError:
        id_ = None
    cursor.execute(
        "UPDATE enrolment_codes SET uses_left = 0 WHERE school_id = %s AND (id = %s OR code_hash = %s) AND uses_left > 0"
        " AND expires_at_ms > %s RETURNING id",
        (school_id, id_, code_hash(which.partition(MARK)[0]), now_ms),
    )
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such code that can still be used.")
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "enrolment_code.ended", row[0])


def redeem(
    cursor: Cursor,
    ids: IdSource,
    code: str,
    device_name: str,
    app_version: str,
    now_ms: int,
    keys: PublicKeys | None = None,
    token: str = "",
) -> EnrolledDevice:
    """Uses a code up by one and adds the device with its grants, all in the caller's transaction. Without `keys` it can write no bundles.
    Whoever shows the `token` of a device of the same school is enrolled again: the new one stands for that device (cloud_api/devices/replacement.py).

    Raises Forbidden (`enrolment_refused`) for a wrong, expired or used code without saying which, InvalidInput for names too long.
    """
    _check_names(device_name, app_version)
    cursor.execute("SELECT school_id, id, grants FROM redeem_code(%s, %s)", (code_hash(code), now_ms))
    if (row := cursor.fetchone()) is None:
        raise Forbidden("This code cannot be used (any more): ask for a new one.", code="enrolment_refused")
    school_id, code_id, grants = row
    device = EnrolledDevice(ids.new(), school_id, _school_name(cursor, school_id), new_token())
    cursor.execute(
        "INSERT INTO devices (school_id, id, name, token_hash, token_since_ms, app_version, enrolled_at_ms, verify_key, seal_key)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            school_id,
            device.id,
            device_name.strip() or f"device {device.id[-6:]}",
            token_hash(device.token),
            now_ms,
            app_version,
            now_ms,
            *(keys or (None, None)),
        ),
    )
    execute_values(
        cursor,
        "INSERT INTO device_grants (school_id, id, device_id, kind, subject_id, granted_at_ms) VALUES %s",
        [(school_id, ids.new(), device.id, grant["kind"], grant["subject_id"], now_ms) for grant in grants],
    )
    audit.record(cursor, school_id, ids.new(), now_ms, f"device:{device.id}", "device.enrolled", device.id, {"code_id": code_id})
    if token:
        replace(cursor, ids, school_id, token, device.id, now_ms)
    return device


def read_keys(verify_key: str, seal_key: str) -> PublicKeys | None:
    """The public halves as a device sends them, in hex; None where it has none. Raises InvalidInput for anything else."""
    if not verify_key and not seal_key:
        return None
    problems = [
        Problem(f"$.{name}", "invalid_value", f"{name} must be {KEY_BYTES} bytes in lowercase hex digits.")
        for name, text in (("verify_key", verify_key), ("seal_key", seal_key))
        if not _KEY.fullmatch(text)
    ]
    if problems:
        raise InvalidInput(problems)
    return PublicKeys(bytes.fromhex(verify_key), bytes.fromhex(seal_key))


def _check_names(device_name: str, app_version: str) -> None:
    limits = (("device_name", device_name, NAME_LENGTH_MAX), ("app_version", app_version, APP_VERSION_LENGTH_MAX))
    problems = [
        Problem(f"$.{name}", "invalid_value", f"{name} must be at most {limit} characters, none of which controls how it is shown.")
        for name, value, limit in limits
        if not is_shown(value, limit)
    ]
    if problems:
        raise InvalidInput(problems)


def _school_name(cursor: Cursor, school_id: str) -> str:
    cursor.execute("SELECT name FROM schools WHERE id = %s", (school_id,))
    return str(one_row(cursor)[0])
