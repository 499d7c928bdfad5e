"""Talking to the running daemon over its own localhost API, with the control token of the state folder.

http.client rather than the gateway's library: a command asks one question on this machine, and should answer at once.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

from daemon.process.state_folder import RunningDaemon, find_running
from domain.errors import CarrelError, CloudUnreachable, InvalidInput, OperatorError, Problem, Unavailable

ANSWER_BYTES_MAX = 8 * 1024 * 1024


class Control:
    """A daemon that runs, and the right to command it."""

    def __init__(self, running: RunningDaemon, token: str, timeout_s: float) -> None:
        self.running = running
        self._token = token
        self._timeout_s = timeout_s

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path of the API. Raises CarrelError with the daemon's own sentence when it refuses."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a JSON object sent to a path of the API. Raises as `get`."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> None:
        """Deletes what is at a path of the API. Raises as `get`."""
        self._ask("DELETE", path, None)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.running.host, self.running.port, timeout=self._timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            data = response.read(ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise Unavailable(f"The daemon did not answer within {self._timeout_s:g} s.") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("The daemon could not be reached: it may be stopping. Try again.") from error
        finally:
            connection.close()
        return _object(response.status, data)


def find(state_dir: Path, timeout_s: float) -> Control | None:
    """The daemon that owns the state folder; None when none runs. Raises OperatorError when this account may not command it."""
    found = find_running(state_dir)
    return Control(*found, timeout_s) if found else None


def _object(status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data) if data else {}
    except ValueError as error:
        raise OperatorError("Something else than Carrel answers at the daemon's address.") from error
    if not isinstance(answer, dict):
        raise OperatorError("Something else than Carrel answers at the daemon's address.")
    if status >= 400:
        raise _refusal(answer)
    return answer


def _refusal(problem: dict[str, Any]) -> CarrelError:
    """The daemon's problem+json as the error that it was there, as far as a command cares."""
    message = str(problem.get("detail") or problem.get("title") or "The daemon refused.")
    code = problem.get("code")
    if code == CloudUnreachable.code:
        return CloudUnreachable(str(problem.get("reason", "refused")), message)
    if code == InvalidInput.code:
        named = [f"{error['path'].removeprefix('$.')}: {error['message']}" for error in problem.get("errors", ()) if error["path"] != "$"]
        return InvalidInput([Problem("request", InvalidInput.code, "; ".join(named) or message)])
    return OperatorError(message)
