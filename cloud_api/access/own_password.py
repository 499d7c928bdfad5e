"""Somebody who is signed in chooses another password."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_api import audit
from cloud_api.access import sessions, tries
from cloud_api.access.accounts import Account, store_hash, username_of
from cloud_api.access.known_browsers import new_proof
from cloud_api.access.passwords import check_new_password, hash_password
from cloud_api.access.sessions import SignedInUser
from cloud_api.access.sign_in import SignedIn, SignIn
from cloud_api.config import SignIn as SignInSettings
from cloud_api.database import CloudDatabase, Cursor
from domain.clock import Clock
from domain.ids import IdSource


class OwnPassword:
    """Judges the password of before as a sign-in does, throttled in the same way. For any thread."""

    def __init__(self, sign_in: SignIn, database: CloudDatabase, clock: Clock, ids: IdSource, settings: SignInSettings) -> None:
        self._sign_in, self._database, self._clock, self._ids, self._settings = sign_in, database, clock, ids, settings

    def change(self, user: SignedInUser, before: str, after: str, address: str, proofs: Sequence[str] = ()) -> SignedIn:
        """Ends every session of the user and begins a new one, under the new password. `address` and `proofs` are those of the client.

        Raises Forbidden (`wrong_password`) and RateLimited for the password of before, InvalidInput for one that cannot be chosen.
        """
        with self._database.transaction(read_only=True, school=user.school_id) as cursor:
            username = username_of(cursor, user.school_id, user.id)
        check_new_password(after, username)
        shown = self._sign_in.staff(user.school_id, username, before, address, proofs).proof_before
        password_hash = hash_password(after)

        def work(cursor: Cursor) -> SignedIn:
            now_ms = self._clock.now_ms()
            store_hash(cursor, user.school_id, user.id, password_hash)
            sessions.end_all(cursor, user.school_id, user.id)
            tries.forget(cursor, tries.by_account(user.school_id, username))
            audit.record(cursor, user.school_id, self._ids.new(), now_ms, user.actor, "user.password_set", user.id)
            session = sessions.start(cursor, user.school_id, user.id, now_ms, self._settings)
            return SignedIn(session, user, new_proof(Account(user.school_id, user.id, user.role, password_hash), now_ms), shown)

        return self._database.retrying(work, school=user.school_id)
