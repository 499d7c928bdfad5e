"""A student's password, judged by the school: once online, and offline for a month after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from daemon.gateway import CloudGateway
from daemon.identity.device import Identity
from domain.errors import CloudUnreachable, Forbidden, NotEnrolled, RateLimited
from domain.ids import Id, parse_id
from domain.wire import StudentSignInRequest

# The longest password that the school takes (cloud_api/access/passwords.py).
PASSWORD_LENGTH_MAX = 200
# Asked about at the same moment; more would leave no thread for answers to questions while the school's server hangs.
ASKED_AT_ONCE_MAX = 2
# The cloud API's code for a name and a password that do not belong together, or not to a student of this device.
WRONG_PASSWORD = "wrong_password"


class SchoolSignIn:
    """Asks the school. Each time over a connection of its own: a sync round may be using the other."""

    def __init__(self, identity: Identity, gateway_for: Callable[[str], CloudGateway]) -> None:
        self._identity, self._gateway_for = identity, gateway_for
        self._turns = threading.BoundedSemaphore(ASKED_AT_ONCE_MAX)

    def student(self, username: str, password: str) -> Id | None:
        """Whose name and password these are; None while the school cannot be asked.

        Raises Forbidden (`wrong_password`), and RateLimited when the school makes the next try wait, or is being asked about others.
        """
        identity = self._identity.current()
        if identity is None:
            return None
        if not self._turns.acquire(blocking=False):
            raise RateLimited("Too many are signing in at this moment.")
        try:
            with closing(self._gateway_for(identity.cloud_url)) as gateway:
                return parse_id(gateway.sign_in(self._identity.token(), StudentSignInRequest(username, password)).student_id)
        except CloudUnreachable as refusal:
            if refusal.remote_code == WRONG_PASSWORD:
                raise Forbidden("The name or the password is wrong.", "wrong_password") from refusal
            if refusal.http_status == RateLimited.status:
                raise RateLimited("There were too many wrong tries: wait before the next.", refusal.retry_after_s or 1.0) from refusal
            return None
        except (NotEnrolled, ValueError):
            return None
        finally:
            self._turns.release()
