"""`make demo`: real study records through the localhost API, with the school's server there, gone, and coming back; then both databases side by
side."""

from __future__ import annotations

import gzip
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_api.config import DATABASE_URL_VARIABLE
from cloud_api.embedded import DatabaseServer, reachable_folder
from daemon.config import DATABASE_VARIABLE
from devstack.compare import TableComparison, cloud_rows, compare, device_rows
from devstack.display import Display
from devstack.place import Place
from devstack.processes import ROOT
from devstack.replay import Request, read_reviews, requests_of
from devstack.seeding import DEMO_PIN
from devstack.stack import POSTGRES_FOLDER, Stack, running
from domain.clock import SystemClock
from domain.errors import OperatorError
from domain.ids import IdSource, dashed

REVIEWS = ROOT / "seeds" / "reviews.csv.gz"
STUDENTS_MAX = 3
# The daemon's longest wait between tries is 15 minutes by default; a demonstration is not left waiting for that.
BACKOFF_CAP_S = 2
# How long the daemon may take to notice that the server has gone, and to bring everything to school once it is back.
NOTICE_TIMEOUT_S = 20.0
SYNC_TIMEOUT_S = 120.0
POLL_S = 0.1
# A bar's note is brought up to date after so many requests, because asking for it is a request too.
STATUS_EVERY = 10
# Differing rows that are named.
EXAMPLES_MAX = 5

Status = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """`records`: reviews to replay, None for all; `students`: among how many they are dealt; `keep`: leave everything in place."""

    records: int | None = None
    students: int = STUDENTS_MAX
    keep: bool = False


@dataclass(frozen=True)
class Outcome:
    """What the two databases came to. `state`, `pending` and `rejected` are the daemon's own words (GET /v1/status)."""

    sent: int
    acknowledged: int
    state: str
    pending: int
    rejected: int
    tables: Sequence[TableComparison]

    def problems(self) -> list[str]:
        """What is not as it must be, in sentences; empty when both databases agree and nothing is missing."""
        attempts = next(t for t in self.tables if t.table == "question_attempts")
        found = [
            (self.acknowledged != self.sent, f"{self.sent - self.acknowledged} attempts were not acknowledged."),
            (attempts.on_device != self.sent, f"SQLite holds {attempts.on_device} attempts of {self.sent}."),
            (attempts.in_cloud != self.sent, f"PostgreSQL holds {attempts.in_cloud} attempts of {self.sent}."),
            (self.pending != 0, f"{self.pending} changes still wait on the device."),
            (self.rejected != 0, f"The school refused {self.rejected} changes."),
            (self.state != "synced", f"The device does not say `synced` but `{self.state}`."),
            *((bool(t.differing), f"{t.table}: {_examples(t.differing)}") for t in self.tables),
        ]
        return [sentence for wrong, sentence in found if wrong]


def demo(environ: Mapping[str, str], options: Options, display: Display) -> int:
    """Plays the demonstration. Returns 0 when both databases agree, else 1. Raises OperatorError when something does not start or answer."""
    began_s = time.monotonic()
    with _throw_away_place(environ, options, display) as place, running(place, display) as stack:
        requests = _requests(stack, options)
        replay = _Replay(stack, requests, display)
        display.say(_introduction(requests, options.students))
        for part in (replay.online, replay.offline, replay.coming_back):
            part()
        outcome = replay.outcome()
        _show(outcome, display)
    took = f"{time.monotonic() - began_s:.1f} s in all"
    if problems := outcome.problems():
        display.say("\n".join(["", "The databases do not agree:", *(f"  {problem}" for problem in problems), took]))
        return 1
    display.say(f"\nEvery answer is in both databases, once and the same in every column. {took}.")
    return 0


class _Replay:
    """Sends the requests in three parts of about equal size, and counts what is acknowledged."""

    def __init__(self, stack: Stack, requests: Sequence[Request], display: Display) -> None:
        third = (len(requests) + 2) // 3
        self._parts = [requests[:third], requests[third : 2 * third], requests[2 * third :]]
        self._stack, self._display = stack, display
        self._tokens = [_sign_in(stack, username) for username in stack.school.usernames[:STUDENTS_MAX]]
        self._sent: set[str] = set()
        self._acknowledged: set[str] = set()

    def online(self) -> None:
        """The server is there, and everything gets to school."""
        self._play("Online", self._parts[0])
        self._bring_to_school()

    def offline(self) -> None:
        """The server's processes are killed; the daemon goes on answering, and says what waits and why.

        Raises OperatorError when it does not say so: then this part has shown nothing.
        """
        self._stack.cloud.kill()
        self._display.say("  The cloud API is killed (SIGKILL).")
        self._play("Offline", self._parts[1])
        status = self._await(lambda s: s["state"] == "waiting", NOTICE_TIMEOUT_S)
        answered = sum(len(request.attempts) for request in self._parts[1])
        if status["state"] != "waiting" or status["pending"] < answered:
            raise OperatorError(
                f"The daemon did not notice that the server is gone: it says `{status['state']}`, {status['pending']} pending."
            )
        self._display.say(
            f"  The daemon recorded all {answered:,} meanwhile and says: {status['state']}, {status['pending']:,} pending,"
            f" reason {status['reason']}: {status['message']}"
        )

    def coming_back(self) -> None:
        """The server starts while answers go on coming in."""
        self._display.say("  The cloud API is started again.")
        self._stack.cloud.start()
        self._play("Coming back", self._parts[2])
        self._stack.cloud.await_ready()
        self._bring_to_school()

    def outcome(self) -> Outcome:
        """Both databases as they are now."""
        stack = self._stack
        tables = compare(device_rows(stack.place.device_database), cloud_rows(stack.database, stack.school.id))
        status = stack.client.status()
        acknowledged = len(self._sent & self._acknowledged)
        return Outcome(len(self._sent), acknowledged, status["state"], status["pending"], status["rejected"], tables)

    def _play(self, title: str, requests: Sequence[Request]) -> None:
        client = self._stack.client
        done = 0
        with self._display.bar(title, sum(len(request.attempts) for request in requests)) as tell:
            for number, request in enumerate(requests, start=1):
                self._sent |= {attempt["id"] for attempt in request.attempts}
                self._acknowledged |= client.record(self._tokens[request.student], request.attempts)
                done += len(request.attempts)
                if number % STATUS_EVERY == 0 or number == len(requests):
                    tell(done, _note(client.status()))

    def _bring_to_school(self) -> None:
        """Waits until the daemon says that everything is at school, or SYNC_TIMEOUT_S is over."""
        total: int = self._stack.client.status()["pending"]
        with self._display.bar("Bringing the rest", total) as tell:
            self._await(lambda s: s["state"] in ("synced", "rejected"), SYNC_TIMEOUT_S, lambda s: tell(total - s["pending"], _note(s)))

    def _await(self, reached: Callable[[Status], bool], timeout_s: float, look: Callable[[Status], None] = lambda status: None) -> Status:
        """Asks for the status until it is as wanted or the time is over; the last one."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            status = self._stack.client.status()
            look(status)
            if reached(status) or time.monotonic() > deadline_s:
                return status
            self._stack.daemon.demand_alive()
            time.sleep(POLL_S)


# --- what is played, and where


def _sign_in(stack: Stack, username: str) -> str:
    """A session in an app of the student's own: in a shared one, the next student's would end it."""
    return stack.client.sign_in(username, DEMO_PIN, stack.client.add_app(f"Desk of {username}"))


def _requests(stack: Stack, options: Options) -> list[Request]:
    with gzip.open(REVIEWS, "rt", encoding="utf-8", newline="") as lines:
        reviews = read_reviews(lines)[: options.records]
    token = stack.client.sign_in(stack.school.usernames[0], DEMO_PIN)
    questions = sorted(stack.client.questions(token), key=lambda q: (str(q["external_id"]), q["id"]))
    ids = IdSource(SystemClock().now_ms)
    return requests_of(reviews, [q["id"] for q in questions], options.students, lambda: dashed(ids.new()))


@contextmanager
def _throw_away_place(environ: Mapping[str, str], options: Options, display: Display) -> Iterator[Place]:
    """A place with free ports and default settings, of which nothing is left afterwards unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="carrel-demo-"))
    folder.chmod(0o711)  # the account that runs PostgreSQL must get through when root starts it
    try:
        config = folder / "config.toml"
        config.write_text("")
        with _scratch_database(environ.get(DATABASE_URL_VARIABLE), options, display) as url:
            yield Place.choose(folder / "state", config, _own_environ(environ, url))
    finally:
        postgres = reachable_folder(folder / "state" / POSTGRES_FOLDER)
        for path in (postgres, folder):
            if not options.keep:
                shutil.rmtree(path, ignore_errors=True)
            elif path == folder or not path.is_relative_to(folder):
                display.say(f"Kept: {path}")


def _own_environ(environ: Mapping[str, str], database_url: str | None) -> dict[str, str]:
    """The caller's environment without any setting of Carrel's, which are for other databases and ports."""
    foreign = (DATABASE_URL_VARIABLE, DATABASE_VARIABLE)
    own = {name: value for name, value in environ.items() if not name.startswith("CARREL_") and name not in foreign}
    own |= {"CARREL_DEVICE_API_PORT": "0", "CARREL_CLOUD_SERVER_PORT": "0", "CARREL_DEVICE_SYNC_BACKOFF_CAP_S": str(BACKOFF_CAP_S)}
    return own | ({DATABASE_URL_VARIABLE: database_url} if database_url else {})


@contextmanager
def _scratch_database(server_url: str | None, options: Options, display: Display) -> Iterator[str | None]:
    """A new database on the server that DATABASE_URL names, whose own database is left alone; None where there is no such server."""
    if not server_url:
        yield None
        return
    server, name = DatabaseServer(server_url), f"carrel_demo_{secrets.token_hex(4)}"
    url = server.create_database(name)
    try:
        yield url
    finally:
        if options.keep:
            display.say(f"Kept: the database {name}")
        else:
            server.drop_database(name)


# --- saying it


def _introduction(requests: Sequence[Request], students: int) -> str:
    attempts = sum(len(request.attempts) for request in requests)
    whom = "one student" if students == 1 else f"{students} students"
    return f"""
{attempts:,} spaced reviews that one learner did in 2024 (py-fsrs, MIT licence) become answers of {whom}, in {len(requests):,} requests.
The review log has no questions: each of its flashcards is lent one of the course.
"""


def _note(status: Status) -> str:
    reason = f" ({status['reason']})" if status["reason"] else ""
    return f"{status['state']}{reason}, {status['pending']:,} pending"


def _show(outcome: Outcome, display: Display) -> None:
    display.say()
    figures = [[t.table, f"{t.on_device:,}", f"{t.in_cloud:,}", f"{len(t.differing):,}"] for t in outcome.tables]
    display.table(["rows", "SQLite", "PostgreSQL", "differing"], figures)
    display.say(
        f"\n  attempts sent {outcome.sent:,}, acknowledged {outcome.acknowledged:,}; pending {outcome.pending:,},"
        f" rejected {outcome.rejected:,}; status {outcome.state}"
    )


def _examples(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - EXAMPLES_MAX:,} more" if len(ids) > EXAMPLES_MAX else ""
    return f"{len(ids):,} rows differ: {', '.join(ids[:EXAMPLES_MAX])}{more}"
