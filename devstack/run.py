"""`make run`: the stack in the state folder of the clone, until it is told to stop. `make seed`: its school alone."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from cloud_api.config import DATABASE_URL_VARIABLE
from cloud_api.embedded import reachable_folder
from daemon.config import CONFIG_VARIABLE
from devstack.display import Display
from devstack.place import Place, make_state_folder
from devstack.processes import ROOT
from devstack.seeding import CLASS_NAME, COURSE_TITLE, DEMO_PIN, SCHOOL_NAME, TEACHER, TEACHER_PASSWORD
from devstack.stack import POSTGRES_FOLDER, Stack, running, seeded
from domain.errors import OperatorError

STATE_VARIABLE = "CARREL_STATE_DIR"
STATE_FOLDER = ".state"
CONFIG = ROOT / "config.toml"
# How often it is looked whether both processes are still there.
WATCH_S = 0.2
# Takes the token out of the answer to a sign-in, with what every shell has.
_TOKEN_OF_ANSWER = r"""sed 's/.*"token":"\([^"]*\)".*/\1/'"""


def run(environ: Mapping[str, str], display: Display) -> int:
    """Starts everything and keeps it running. Returns 0 after an interrupt.

    Raises OperatorError when something does not start or ends by itself, and KeyboardInterrupt when interrupted before all was started.
    """
    with running(place_of_clone(environ), display) as stack:
        display.say(about(stack))
        try:
            _watch(stack)
        except KeyboardInterrupt:
            display.say("\nStopping.")
    display.say("Stopped.")
    return 0


def seed(environ: Mapping[str, str], display: Display) -> int:
    """Fills the school's database and ends: that of `run`, which may be running, or the one that DATABASE_URL names. Returns 0.

    Raises OperatorError when there is no PostgreSQL, or when the folder cannot be made.
    """
    state_dir = state_of_clone(environ)
    make_state_folder(state_dir)
    with seeded(state_dir, environ.get(DATABASE_URL_VARIABLE) or None, display) as (_database, school):
        display.say(
            f"\n  school       {SCHOOL_NAME}, class {CLASS_NAME}, students {', '.join(school.usernames)}\n  course       {COURSE_TITLE}"
        )
    return 0


def state_of_clone(environ: Mapping[str, str]) -> Path:
    """The folder with the data of this clone's stack."""
    return Path(environ.get(STATE_VARIABLE) or ROOT / STATE_FOLDER).absolute()


def place_of_clone(environ: Mapping[str, str]) -> Place:
    """Where this clone's stack lives. Raises as `Place.choose` does."""
    return Place.choose(state_of_clone(environ), Path(environ.get(CONFIG_VARIABLE) or CONFIG).absolute(), environ)


def _watch(stack: Stack) -> NoReturn:
    while True:
        stack.demand_alive()
        time.sleep(WATCH_S)


def about(stack: Stack) -> str:
    """What a person can do now, with commands that work."""
    place = stack.place
    return f"""
Carrel is running; Ctrl-C stops it, and the next start finds the same data. `make reset` forgets it.

  school       {SCHOOL_NAME}, class {CLASS_NAME}, students {", ".join(stack.school.usernames)}, each with the PIN {DEMO_PIN}
  course       {COURSE_TITLE}
  cloud API    {place.cloud.url}   {_teachers_page(stack)}
  daemon       {place.device.url}   the student's page; {place.device.url}/v1/openapi.json describes the API
  PostgreSQL   {_postgres(stack)}
  SQLite       {place.device_database}
  logs         {place.state_dir / "logs"}

Try it, in another terminal: open a session, record an answer, see whether it is at school.

{chr(10).join(curl_lines(stack))}
"""


def _teachers_page(stack: Stack) -> str:
    return "the pages of the school" if stack.place.database_url else f"the teacher's pages: {TEACHER}, password {TEACHER_PASSWORD}"


def _postgres(stack: Stack) -> str:
    """Where the database is, without its password."""
    parts = urlsplit(stack.database.url)
    where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
    if stack.place.database_url:
        return where
    return f"{where}   its password is in {reachable_folder(stack.place.state_dir / POSTGRES_FOLDER) / 'password'}"


def curl_lines(stack: Stack) -> list[str]:
    """Three commands for a shell, each of which works by itself and whenever it is pasted: the second opens the session that it needs."""
    if not stack.school.usernames:
        raise OperatorError(f"{SCHOOL_NAME} has no students: `make reset` begins anew.")
    client, url, username = stack.client, stack.place.device.url, stack.school.usernames[0]
    token = client.sign_in(username, DEMO_PIN)
    question = next(client.questions(token), None)
    if question is None:
        raise OperatorError(f"The course of {SCHOOL_NAME} has no questions: `make reset` begins anew.")
    attempt = {"question_id": question["id"], "answer": question["answers"][0], "correct": True, "active_ms": 12_000, "purpose": "free"}
    session = _curl(f"{url}/v1/sessions", {"username": username, "pin": DEMO_PIN}, client.app_token())
    return [session, _curl(f"{url}/v1/attempts", attempt, f"$({session} | {_TOKEN_OF_ANSWER})"), _curl(f"{url}/v1/status")]


def _curl(url: str, body: Mapping[str, object] | None = None, token: str | None = None) -> str:
    """A command for a shell; `token` may hold another, `$(…)`."""
    words = ["curl", "-sS"]
    if getproxies_environment():
        words += ["--noproxy", shlex.quote("*")]
    if token:
        words += ["-H", f'"Authorization: Bearer {token}"']
    if body is not None:
        words += ["-H", shlex.quote("Content-Type: application/json"), "-d", shlex.quote(json.dumps(body))]
    return " ".join([*words, url])
