"""Accounts: who may sign in with which password. Reads and writes users' password hashes; no other module does."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api import audit
from cloud_api.access import sessions, tries
from cloud_api.access.passwords import check_new_password, hash_password
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.people import find_user
from cloud_api.schools import find_school
from domain.clock import Clock
from domain.errors import NotFound
from domain.ids import Id, IdSource


@dataclass(frozen=True, slots=True)
class Account:
    """What a password is judged by."""

    school_id: Id
    user_id: Id
    role: str
    password_hash: str | None


def school_of_sign_in(cursor: Cursor, name_or_id: str | None) -> Id | None:
    """The school that somebody who is not signed in yet means: by name or id, or the only one of the server. None when there is none."""
    cursor.execute("SELECT school_meant(%s)", (name_or_id.strip() if name_or_id is not None else None,))
    row = cursor.fetchone()
    return row[0] if row else None


def find_account(cursor: Cursor, school_id: str, username: str) -> Account | None:
    """The account of that name, case not counting; None when there is none, or its holder has left the school."""
    cursor.execute(
        "SELECT id, role, password_hash FROM users WHERE school_id = %s AND lower(username) = lower(%s) AND retired_at_ms IS NULL",
        (school_id, username.strip()),
    )
    row = cursor.fetchone()
    return Account(Id(school_id), *row) if row else None


def username_of(cursor: Cursor, school_id: str, user_id: str) -> str:
    """The name under which somebody signs in. Raises NotFound."""
    cursor.execute("SELECT username FROM users WHERE school_id = %s AND id = %s AND retired_at_ms IS NULL", (school_id, user_id))
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such user in the school.")
    return str(row[0])


def set_password(database: CloudDatabase, clock: Clock, ids: IdSource, school: str, username: str, password: str) -> None:
    """Gives somebody a password, and ends all sessions under the one before. Raises InvalidInput, NotFound.

    The hash is made outside of any transaction: it takes as long as it is meant to.
    """
    check_new_password(password, username)
    with database.transaction(read_only=True) as cursor:
        school_id = find_school(cursor, school).id
        user_id = find_user(cursor, school_id, username).id
    password_hash = hash_password(password)

    def work(cursor: Cursor) -> None:
        store_hash(cursor, school_id, user_id, password_hash)
        sessions.end_all(cursor, school_id, user_id)
        tries.forget(cursor, tries.by_account(school_id, username))
        audit.record(cursor, school_id, ids.new(), clock.now_ms(), audit.OPERATOR, "user.password_set", user_id)

    database.retrying(work, school=school_id)


def store_hash(cursor: Cursor, school_id: str, user_id: str, password_hash: str) -> None:
    """Stores what a password is judged by. It takes no feed number: it travels nowhere."""
    cursor.execute("UPDATE users SET password_hash = %s WHERE school_id = %s AND id = %s", (password_hash, school_id, user_id))
