"""A learning app as the daemon sees it: one connection, kept open, and a student's session."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.processes import control_of
from daemon.process.state_folder import read_app_token
from domain.errors import OperatorError
from domain.ids import Id, parse_id

REQUEST_TIMEOUT_S = 30.0
PIN = "2468"


class AppClient:
    """Not for several threads. `acknowledged` are the attempts answered with 201."""

    def __init__(self, url: str, state_dir: Path) -> None:
        self._state_dir = state_dir
        target = urlsplit(url)
        self._connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=REQUEST_TIMEOUT_S)
        self._headers = {"Content-Type": "application/json"}
        self.acknowledged: list[Id] = []

    def sign_in(self, student_id: Id) -> None:
        """Starts a session; what is sent from now on is this student's."""
        control_of(self._state_dir).post(f"/v1/students/{student_id}/pin", {"pin": PIN})
        self._speak_for_account()
        answer = self._post("/v1/sessions", json.dumps({"student_id": student_id, "pin": PIN}).encode())
        self._headers["Authorization"] = f"Bearer {answer['token']}"

    def record(self, attempt: bytes) -> None:
        """POST /v1/attempts with one attempt as JSON; returns once it is on the disk."""
        self.acknowledged.append(parse_id(self._post("/v1/attempts", attempt)["id"]))

    def students(self) -> list[Id]:
        """The students on the device."""
        self._speak_for_account()
        return [parse_id(student["id"]) for student in json.loads(self.ask("/v1/students"))["items"]]

    def ask(self, path: str) -> bytes:
        """GET: the body, whatever the status."""
        self._connection.request("GET", path, None, self._headers)
        return self._connection.getresponse().read()

    def close(self) -> None:
        self._connection.close()

    def _speak_for_account(self) -> None:
        self._headers["Authorization"] = f"Bearer {read_app_token(self._state_dir)}"

    def _post(self, path: str, body: bytes) -> dict[str, Any]:
        self._connection.request("POST", path, body, self._headers)
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != 201:
            raise OperatorError(f"POST {path} was answered with {response.status}: {answer}")
        return answer
