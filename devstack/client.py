"""The two HTTP APIs as an app would call them: the daemon's localhost API, and whether a server answers at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import urllib3

from daemon.process.state_folder import TOKEN_NAME as CONTROL_TOKEN_NAME
from daemon.process.state_folder import read_app_token
from domain.errors import OperatorError, Unavailable

# Longer than the daemon lets a request wait for the disk.
READ_TIMEOUT_S = 40.0
CONNECT_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 2.0
# A daemon that is busy says 503 and when to come again. Everything sent here may be sent twice: attempts carry their ids.
TRIES_MAX = 5
BUSY = (429, 503)
# The largest page that the API gives.
PAGE_ITEMS = 500
# More pages than any course fills; a cursor that never ends would otherwise be a loop that never does.
PAGES_MAX = 1_000


class DaemonClient:
    """Calls the daemon at `url`, whose state folder holds the tokens of this account.

    Every method raises OperatorError for a refusal, and Unavailable when no answer comes.
    """

    def __init__(self, url: str, state_dir: Path) -> None:
        self._state_dir = state_dir
        retries = urllib3.Retry(TRIES_MAX, status_forcelist=BUSY, allowed_methods=None, backoff_factor=0.1, raise_on_status=False)
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        self._pool = urllib3.connection_from_url(url, timeout=timeout, retries=retries, maxsize=1)

    def status(self) -> dict[str, Any]:
        """GET /v1/status."""
        return self._call("GET", "/v1/status")

    def app_token(self) -> str:
        """The token with which programs of this account are an app, as long as this daemon runs."""
        return read_app_token(self._state_dir)

    def set_pins(self, pin: str) -> None:
        """Gives every student on the device this PIN."""
        control = (self._state_dir / CONTROL_TOKEN_NAME).read_text()
        for student in self._call("GET", "/v1/students", control)["items"]:
            self._call("POST", f"/v1/students/{student['id']}/pin", control, {"pin": pin})

    def add_app(self, name: str) -> str:
        """Registers an app; its token."""
        control = (self._state_dir / CONTROL_TOKEN_NAME).read_text()
        return str(self._call("POST", "/v1/apps", control, {"name": name})["token"])

    def sign_in(self, username: str, pin: str, app_token: str | None = None) -> str:
        """Opens a session for a student, in the account's own app unless another is given; its token."""
        body = {"username": username, "pin": pin}
        return str(self._call("POST", "/v1/sessions", app_token or self.app_token(), body)["token"])

    def questions(self, token: str) -> Iterator[dict[str, Any]]:
        """Every question on the device, page after page."""
        cursor = ""
        for _ in range(PAGES_MAX):
            page = self._call("GET", f"/v1/questions?limit={PAGE_ITEMS}{cursor}", token)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"

    def record(self, token: str, attempts: Sequence[dict[str, Any]]) -> set[str]:
        """POST /v1/attempts, a single one as an object of its own. The ids that the daemon has acknowledged."""
        if len(attempts) == 1:
            recorded = [self._call("POST", "/v1/attempts", token, attempts[0])]
        else:
            recorded = self._call("POST", "/v1/attempts", token, {"attempts": list(attempts)})["attempts"]
        return {attempt["id"] for attempt in recorded}

    def close(self) -> None:
        """Closes the connection."""
        self._pool.close()

    def _call(self, method: str, path: str, token: str | None = None, body: dict[str, Any] | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            response = self._pool.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            answer: dict[str, Any] = response.json() if response.data else {}
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable("The daemon does not answer.") from error
        except ValueError as error:
            raise OperatorError("Something else than Carrel answers at the daemon's address.") from error
        if response.status >= 400:
            raise OperatorError(f"The daemon refused {method} {path.partition('?')[0]} ({response.status}): {answer.get('detail')}")
        return answer


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 now."""
    with urllib3.PoolManager() as pool:
        try:
            return pool.request("GET", url, retries=False, timeout=PROBE_TIMEOUT_S).status == 200
        except urllib3.exceptions.HTTPError:
            return False
