"""A learning app for a terminal: asks what Carrel asks next, judges the answer, records it. The standard library is all that it needs. Beside `make run`, until Ctrl-D:

APP=$(cat .state/device/app.token) python3 docs/examples/practice/practice.py mila
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
import uuid
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Any

CARREL = "127.0.0.1:8750"
TRIES_MAX = 8


class Refused(Exception):
    """The daemon's answer to a request that it did not carry out; `problem` is what it says."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"])
        self.problem = problem


def carrel(token: str, method: str, path: str, body: object = None) -> Any:
    """The answer to a request. Raises Refused, and OSError or HTTPException when the daemon is not reached."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with closing(HTTPConnection(CARREL, timeout=30)) as connection:
        connection.request(method, f"/v1{path}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read() or "null")
    if response.status >= 400:
        raise Refused(answer)
    return answer


def record(token: str, attempt: dict[str, Any]) -> None:
    """Records an attempt that has an id of its own, again and again until the daemon has answered for it."""
    for tries in range(TRIES_MAX):
        try:
            carrel(token, "POST", "/attempts", attempt)
            return
        except (Refused, OSError, HTTPException) as error:
            if tries == TRIES_MAX - 1 or (isinstance(error, Refused) and not error.problem["retryable"]):
                raise
            time.sleep(0.25 * 2**tries)


def shown(text: str) -> str:
    """Text for a terminal. TeX stands between $$: a real app sets it."""
    return text.replace("$$", "")


def plain(text: str) -> str:
    """Text to be compared. A real app knows better which answers are equal."""
    return "".join(shown(text).split()).casefold()


def ask(question: dict[str, Any]) -> str:
    """Shows a question and returns what was answered. Raises EOFError when the student has had enough."""
    print(f"\n{shown(question['stem'])}")
    choices = question["choices"] or []
    for number, choice in enumerate(choices, 1):
        print(f"  {number}. {shown(choice)}")
    given = input("> ").strip()
    return choices[int(given) - 1] if given.isdigit() and 0 < int(given) <= len(choices) else given


def practise(token: str) -> None:
    """Question after question, until nothing is left to ask or the student ends it."""
    while (chosen := carrel(token, "GET", "/questions/next"))["question"] is not None:
        question = chosen["question"]
        started_s = time.monotonic()
        try:
            given = ask(question)
        except EOFError:
            return
        correct = plain(given) in map(plain, question["answers"])
        record(
            token,
            {
                "id": str(uuid.uuid4()),
                "question_id": question["id"],
                "answer": given,
                "correct": correct,
                "active_ms": round((time.monotonic() - started_s) * 1000),
                "purpose": chosen["purpose"],
            },
        )
        print("Right." if correct else f"The answer is {shown(question['answers'][0])}.")


def main(username: str) -> None:
    pin = getpass.getpass("PIN: ") if sys.stdin.isatty() else input()
    token = carrel(os.environ["APP"], "POST", "/sessions", {"username": username, "pin": pin})["token"]
    practise(token)
    carrel(token, "DELETE", "/sessions")
    status = carrel("", "GET", "/status")
    print(f"\nNot at school yet: {status['answers_pending']} ({status['state']})")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except (Refused, OSError) as error:
        sys.exit(f"practice: {error}")
