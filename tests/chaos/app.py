"""A learning app: students who answer without a pause through the localhost API, whatever becomes of the daemon behind it."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from daemon.process.state_folder import find_running, read_app_token
from domain.clock import SystemClock
from domain.errors import OperatorError
from domain.ids import Id, IdSource, dashed
from tests.chaos.processes import Enter

REQUEST_MAX_S = 40.0
END_MAX_S = 60.0
# The pause between two answers of one student, and how long a daemon that is gone is left alone.
PACE_S = 0.004
ABSENT_S = 0.02
# Everybody rests at the same time for a part of each period, so that the device can come to be in sync at all.
PERIOD_S, REST_S = 1.5, 0.5
LOOK_EVERY_S = 0.1
# Refusals that say: not now.
NOT_NOW = (503, 507)
# A session ends when its last use is long ago by the clock of the device; the student signs in again.
SIGNED_OUT = 401
FAILURES_MAX = 5


class LearningApp:
    """`acknowledged` maps each attempt that was answered with 2xx to its answer; an app that heard nothing sends the attempt again, or loses interest.

    Beside the students somebody reads the status: when it says `synced`, everything that was acknowledged before must be at school,
    which `at_school` is asked. What must not happen is collected in `failures`. All of them are in the network that `enter` leads into.
    """

    def __init__(
        self,
        state_dir: Path,
        student: Id,
        questions: list[Id],
        at_school: Callable[[set[str]], bool | None],
        seed: int,
        students: int = 3,
        enter: Enter = nullcontext,
    ) -> None:
        self._state_dir, self._student, self._questions, self._at_school = state_dir, student, questions, at_school
        self._enter = enter
        self._ids = IdSource(SystemClock().now_ms)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: dict[str, str] = {}
        self.refused: Counter[int] = Counter()
        self.broken_off = 0
        self.said_synced = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._study, args=(random.Random(f"{seed}.{n}"),)) for n in range(students)]
        self._threads.append(threading.Thread(target=self._watch))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the students after the request that each has under way."""
        self._stopped.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(END_MAX_S)
            if thread.is_alive():
                raise AssertionError("a request of the app never ended")

    def forget(self, ids: set[str]) -> int:
        """Nothing is demanded of these attempts any more; returns how many."""
        with self._lock:
            self.acknowledged = {id_: answer for id_, answer in self.acknowledged.items() if id_ not in ids}
        return len(ids)

    def _fail(self, text: str) -> None:
        with self._lock:
            if len(self.failures) < FAILURES_MAX:
                self.failures.append(text)

    def _study(self, draw: random.Random) -> None:
        with self._enter():
            self._answer_questions(draw)

    def _answer_questions(self, draw: random.Random) -> None:
        connection: _Connection | None = None
        doubtful: dict[str, Any] | None = None
        while not self._stopped.wait(_pause_s() if connection else ABSENT_S):
            connection = connection or _Connection.open(self._state_dir, self._student)
            if connection is None:
                continue
            attempt = doubtful or self._new_attempt(draw)
            try:
                status, answer = connection.ask("POST", "/v1/attempts", attempt)
            except (OSError, http.client.HTTPException):
                self.broken_off += 1
                connection.close()
                connection, doubtful = None, attempt if draw.random() < 0.7 else None
                continue
            doubtful = self._judge(attempt, status, answer)
            if status == SIGNED_OUT:
                connection.close()
                connection = None
        if connection:
            connection.close()

    def _judge(self, attempt: dict[str, Any], status: int, answer: Any) -> dict[str, Any] | None:
        """Takes note of an answer; the attempt, if it is to be sent again."""
        if status in (200, 201):
            with self._lock:
                self.acknowledged[attempt["id"].replace("-", "")] = attempt["answer"]
            return None
        self.refused[status] += 1
        if status not in (*NOT_NOW, SIGNED_OUT):
            self._fail(f"POST /v1/attempts was answered with {status}: {answer}")
            return None
        return attempt

    def _new_attempt(self, draw: random.Random) -> dict[str, Any]:
        id_ = dashed(self._ids.new())
        return {"id": id_, "question_id": dashed(draw.choice(self._questions)), "correct": True, "answer": id_[-8:], "purpose": "free"}

    def _watch(self) -> None:
        proven: set[str] = set()
        while not self._stopped.wait(LOOK_EVERY_S):
            with self._lock:
                before = set(self.acknowledged) - proven
            with self._enter():
                status = _status(self._state_dir)
            if status != "synced":
                continue
            self.said_synced += 1
            arrived = self._at_school(before)
            if arrived is False:
                self._fail(f"TRUTHFUL_STATUS: `synced`, while some of {len(before)} acknowledged attempts are not at school")
            elif arrived:
                proven |= before


def _pause_s() -> float:
    return max(PACE_S, REST_S - time.monotonic() % PERIOD_S)


def _status(state_dir: Path) -> str | None:
    """What the daemon says of sync; None when it does not answer."""
    connection = _Connection.open(state_dir, None)
    if connection is None:
        return None
    try:
        status, answer = connection.ask("GET", "/v1/status")
        return str(answer["state"]) if status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class _Connection:
    """An open connection to the daemon, with a student's session."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=REQUEST_MAX_S)
        self._headers = {"Content-Type": "application/json"}

    @classmethod
    def open(cls, state_dir: Path, student: Id | None) -> _Connection | None:
        """None when there is no daemon now, or it does not know the student yet."""
        with suppress(OperatorError):
            if found := find_running(state_dir):
                connection = cls(found[0].host, found[0].port)
                try:
                    if student is None or connection._sign_in(student, read_app_token(state_dir)):
                        return connection
                except (OSError, http.client.HTTPException):
                    pass
                connection.close()
        return None

    def _sign_in(self, student: Id, app_token: str) -> bool:
        self._headers["Authorization"] = f"Bearer {app_token}"
        status, answer = self.ask("POST", "/v1/sessions", {"student_id": dashed(student)})
        if status == 201:
            self._headers["Authorization"] = f"Bearer {answer['token']}"
        return status == 201

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of the answer. An answer that cannot be read counts as broken off."""
        self._connection.request(method, path, json.dumps(body) if body else None, self._headers)
        response = self._connection.getresponse()
        data = response.read()
        try:
            return response.status, json.loads(data or b"{}")
        except ValueError as error:
            raise http.client.IncompleteRead(data) from error

    def close(self) -> None:
        self._connection.close()


def wait_for_answers(app: LearningApp, count: int, within_s: float = END_MAX_S) -> None:
    """Returns once so many more attempts have been acknowledged than now."""
    wanted, deadline_s = len(app.acknowledged) + count, time.monotonic() + within_s
    while len(app.acknowledged) < wanted:
        if time.monotonic() > deadline_s:
            raise AssertionError(f"only {len(app.acknowledged)} of {wanted} attempts were acknowledged within {within_s:.0f} s")
        time.sleep(ABSENT_S)
