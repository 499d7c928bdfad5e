"""Signing in with a name and a password: teachers and administrators for themselves, students through an enrolled device.

count the try (committed) → look the account up → judge the password, outside of any transaction → session and audit entry

A try is counted by the account and the address, so a pupil who types wrong passwords makes others wait: everybody whose school stands behind that
address. In a browser that knows the person (cloud_api/access/known_browsers.py) it is counted by that browser, and nobody else's tries matter.

Whoever does not exist, has no password, has left, or has another role, is refused as a wrong password is, after the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloud_api import audit
from cloud_api.access import passwords, sessions, tries
from cloud_api.access.accounts import Account, find_account, school_of_sign_in, store_hash
from cloud_api.access.known_browsers import known_by, new_proof
from cloud_api.access.sessions import Session, SignedInUser
from cloud_api.access.tries import Counter
from cloud_api.config import SignIn as SignInSettings
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices.auth import device_for, scopes_of
from domain.clock import Clock
from domain.errors import Forbidden
from domain.ids import Id, IdSource

STAFF = ("teacher", "admin")
STUDENT = ("student",)
# The actor of a try by somebody who is not known yet.
NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The session of a teacher or an administrator, whose it is, and what makes the browser one that knows this person, in place of `proof_before`."""

    session: Session
    user: SignedInUser
    proof: str
    proof_before: str | None = None


class SignIn:
    """The ways in. For any thread; holds no transaction while a password is judged."""

    def __init__(self, database: CloudDatabase, clock: Clock, ids: IdSource, settings: SignInSettings) -> None:
        self._database, self._clock, self._ids, self._settings = database, clock, ids, settings

    def staff(self, school: str | None, username: str, password: str, address: str, proofs: Sequence[str] = ()) -> SignedIn:
        """Signs a teacher or an administrator in. `school` is a name or an id; None where the server has one school. `address` is the client's,
        `proofs` are those that its browser shows.

        Raises Forbidden (`wrong_password`), and RateLimited while wrong tries make the next one wait.
        """
        with self._database.transaction(read_only=True) as cursor:
            school_id = school_of_sign_in(cursor, school)
        shown = self._proof_of(school_id, username, proofs)
        whose = tries.by_known_browser(shown) if shown else tries.by_account(school_id or "", username)
        where = None if shown else tries.by_address(address)
        self._count(whose, *([where] if where else []))
        account = self._judge(school_id, username, password, STAFF, NOBODY)

        def begin(cursor: Cursor) -> SignedIn:
            now_ms = self._clock.now_ms()
            present = self._forgive(cursor, account, password, whose, where)
            session = sessions.start(cursor, account.school_id, account.user_id, now_ms, self._settings)
            self._record(cursor, account.school_id, f"user:{account.user_id}", "user.signed_in", account.user_id)
            return SignedIn(session, sessions.find(cursor, session.token, now_ms, self._settings), new_proof(present, now_ms), shown)

        return self._database.retrying(begin, school=account.school_id)

    def student(self, device_token: str, username: str, password: str) -> Id:
        """The id of a student of this device, whose password was right: the device may let this student in by itself, for a while.

        Raises NotSignedIn and Forbidden for the device; Forbidden (`wrong_password`), also for a student whom the device may not hold;
        RateLimited.
        """
        with self._database.transaction(read_only=True) as cursor:
            device = device_for(cursor, device_token, lock=False)
            scopes = scopes_of(cursor, device)
        by_account = tries.by_account(device.school_id, username)
        self._count(by_account, tries.by_device(device.id))
        actor = f"device:{device.id}"
        account = self._judge(device.school_id, username, password, STUDENT, actor, scopes)

        def admit(cursor: Cursor) -> Id:
            self._forgive(cursor, account, password, by_account, tries.by_device(device.id))
            self._record(cursor, device.school_id, actor, "student.signed_in", account.user_id)
            return account.user_id

        return self._database.retrying(admit, school=device.school_id)

    def sign_out(self, user: SignedInUser, token: str) -> None:
        """Ends the session, at once."""

        def work(cursor: Cursor) -> None:
            sessions.end(cursor, user.school_id, token)
            self._record(cursor, user.school_id, user.actor, "user.signed_out", user.id)

        self._database.retrying(work, school=user.school_id)

    def _proof_of(self, school_id: str | None, username: str, proofs: Sequence[str]) -> str | None:
        """The proof by which this browser knows the person, if it does. What takes longer for somebody who exists is asked with a proof alone."""
        if school_id is None or not proofs:
            return None
        with self._database.transaction(read_only=True, school=school_id) as cursor:
            account = find_account(cursor, school_id, username)
        return known_by(account, proofs, self._clock.now_ms()) if account else None

    def _count(self, *counters: Counter) -> None:
        def work(cursor: Cursor) -> None:
            for counter in sorted(counters, key=lambda counter: counter.key):  # always in one order: no two tries wait for each other
                tries.begin(cursor, counter, self._clock.now_ms())

        self._database.retrying(work)

    def _judge(
        self, school_id: str | None, username: str, password: str, roles: Sequence[str], actor: str, scopes: frozenset[str] | None = None
    ) -> Account:
        """The account, if it has one of these roles and, where `scopes` are given, they reach it. Refusals are written down."""
        account = None
        if school_id is not None:
            with self._database.transaction(read_only=True, school=school_id) as cursor:
                account = find_account(cursor, school_id, username)
        eligible = account if account and account.role in roles and (scopes is None or f"student:{account.user_id}" in scopes) else None
        if passwords.is_right(eligible.password_hash if eligible else None, password) and eligible:
            return eligible
        if school_id is not None:
            subject, school = account.user_id if account else None, school_id
            self._database.retrying(lambda cursor: self._record(cursor, school, actor, "sign_in.refused", subject), school=school)
        raise Forbidden("The name or the password is wrong.", "wrong_password")

    def _forgive(self, cursor: Cursor, account: Account, password: str, whose: Counter, where: Counter | None) -> Account:
        """After a right password: wrong tries at the account are forgotten, those at others' from the same place are not. The account as it is now."""
        tries.forget(cursor, whose)
        if where is not None:
            tries.take_back(cursor, where)
        if not passwords.is_outdated(str(account.password_hash)):
            return account
        renewed = replace(account, password_hash=passwords.hash_password(password))
        store_hash(cursor, account.school_id, account.user_id, str(renewed.password_hash))
        return renewed

    def _record(self, cursor: Cursor, school_id: str, actor: str, action: str, subject: str | None) -> None:
        audit.record(cursor, school_id, self._ids.new(), self._clock.now_ms(), actor, action, subject)
