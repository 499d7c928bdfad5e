"""Sessions of people who signed in: who is at a page or the API, by a random token of which only the hash is kept.

A session ends by itself when it was not used for a while and some hours after it began, whatever comes first; at once when its holder signs
out, gets another password, or leaves the school.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api.config import SignIn as SignInSettings
from cloud_api.database import Cursor
from cloud_api.tokens import new_token, token_hash
from domain.errors import Forbidden, NotSignedIn
from domain.ids import Id

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
# The last use is written down at most this often, so that looking at a page writes nothing.
NOTE_USE_AFTER_MS = MINUTE_MS
# Sessions that one person may have, for several browsers; the ones not used for longest end first.
SESSIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """Somebody with a live session. `class_ids` are the classes of which a teacher is one; an administrator may see every class."""

    id: Id
    school_id: Id
    role: str
    display_name: str
    class_ids: frozenset[Id]

    @property
    def actor(self) -> str:
        """Who this is in the audit log."""
        return f"user:{self.id}"

    def demand_role(self, *roles: str) -> None:
        """Raises Forbidden unless the user has one of these roles."""
        if self.role not in roles:
            raise Forbidden("This needs another role at the school.")

    def demand_class(self, class_id: str) -> None:
        """Raises Forbidden unless the user may see this class."""
        if self.role != "admin" and class_id not in self.class_ids:
            raise Forbidden("This is not one of your classes.")


@dataclass(frozen=True, slots=True)
class Session:
    """A session just made. `token` is shown once and never again; `ends_at_ms` is when it ends at the latest."""

    token: str
    ends_at_ms: int


def start(cursor: Cursor, school_id: str, user_id: str, now_ms: int, settings: SignInSettings) -> Session:
    """Begins a session of somebody whose password was right."""
    token = new_token()
    cursor.execute(
        "DELETE FROM user_sessions WHERE school_id = %(school)s AND user_id = %(user)s AND (used_at_ms < %(unused)s OR token_hash IN ("
        "SELECT token_hash FROM user_sessions WHERE school_id = %(school)s AND user_id = %(user)s ORDER BY used_at_ms DESC OFFSET %(max)s))",
        {"school": school_id, "user": user_id, "unused": now_ms - settings.idle_min * MINUTE_MS, "max": SESSIONS_MAX - 1},
    )
    cursor.execute(
        "INSERT INTO user_sessions (school_id, token_hash, user_id, started_at_ms, used_at_ms) VALUES (%s, %s, %s, %s, %s)",
        (school_id, token_hash(token), user_id, now_ms, now_ms),
    )
    return Session(token, now_ms + settings.absolute_h * HOUR_MS)


_FIND = "SELECT school_id, user_id, used_at_ms FROM session_by_token(%s) WHERE used_at_ms > %s AND started_at_ms > %s AND used_at_ms < %s"
_USER = """
SELECT u.id, u.role, u.display_name,
       array(SELECT m.class_id FROM class_members m JOIN classes c ON c.school_id = m.school_id AND c.id = m.class_id
              WHERE m.school_id = u.school_id AND m.user_id = u.id AND m.role = 'teacher' AND c.retired_at_ms IS NULL)
  FROM users u WHERE u.school_id = %s AND u.id = %s AND u.retired_at_ms IS NULL
"""


def find(cursor: Cursor, token: str, now_ms: int, settings: SignInSettings, *, is_use: bool = True) -> SignedInUser:
    """Whose live session this is, whose school the transaction is about from then on; that counts as a use of it, or not. Raises NotSignedIn."""
    hash_ = token_hash(token)
    # A clock that is put back a little ends no session. One that had run far ahead would have made sessions that never end.
    cursor.execute(_FIND, (hash_, now_ms - settings.idle_min * MINUTE_MS, now_ms - settings.absolute_h * HOUR_MS, now_ms + HOUR_MS))
    if (session := cursor.fetchone()) is None:
        raise NotSignedIn("This session has ended: sign in again.")
    school_id, user_id, used_at_ms = session
    cursor.execute(_USER, (school_id, user_id))
    if (user := cursor.fetchone()) is None:
        raise NotSignedIn("This session has ended: sign in again.")
    if is_use and now_ms - used_at_ms > NOTE_USE_AFTER_MS:
        cursor.execute("UPDATE user_sessions SET used_at_ms = %s WHERE school_id = %s AND token_hash = %s", (now_ms, school_id, hash_))
    id_, role, display_name, class_ids = user
    return SignedInUser(id_, school_id, role, display_name, frozenset(class_ids))


def end(cursor: Cursor, school_id: str, token: str) -> None:
    """Ends a session, at once."""
    cursor.execute("DELETE FROM user_sessions WHERE school_id = %s AND token_hash = %s", (school_id, token_hash(token)))


def end_all(cursor: Cursor, school_id: str, user_id: str) -> None:
    """Ends every session of a user, at once."""
    cursor.execute("DELETE FROM user_sessions WHERE school_id = %s AND user_id = %s", (school_id, user_id))


def forget_old(cursor: Cursor, school_id: str, before_ms: int, rows_max: int) -> int:
    """Removes at most so many that began before, and have therefore ended; returns how many."""
    cursor.execute(
        "DELETE FROM user_sessions WHERE (school_id, token_hash) IN (SELECT school_id, token_hash FROM user_sessions"
        " WHERE school_id = %s AND started_at_ms < %s LIMIT %s)",
        (school_id, before_ms, rows_max),
    )
    return cursor.rowcount
