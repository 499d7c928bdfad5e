"""Class figures: how long a class of 40 students and 200 concepts takes to open, with all attempts behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from statistics import median
from typing import NamedTuple

import psycopg2
from flask.testing import FlaskClient

from benchmarks.analytics_school import CLASS_NAME, AnalyticsSchool, build
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage
from benchmarks.timing import alternate, ratio_of, seconds
from cloud_api.access.accounts import set_password
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.keep_up import recount
from cloud_api.analytics.telling import class_mastery
from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.people import create_user
from domain.bodies import to_json
from domain.clock import SystemClock
from domain.errors import CarrelError
from domain.ids import IdSource

MILLISECONDS_MAX = 300
# Reading the cells of such a class from a plain table, with a row a cell, and writing them as JSON.
TIMES_FLOOR_MAX = 5
ROWS_MAX = 1_000_000
_PASSWORD = "correct horse"
# Everything that a teacher opens, with its address below that of the class.
_PAGES = {
    "all topics": "",
    "all concepts": "?by=concepts",
    "all concepts in figures": "?by=concepts&as=table",
    "who needs help": "/help",
    "questions": "/questions",
    "questions, the last page": "/questions?order=easiest&page=40",
    "time and practice": "/practice",
}

_CELLS = (
    "CREATE TABLE floor_cells AS SELECT s.id AS student_id, c.id AS concept_id, random() AS score, 'familiar' AS level, 125 AS answers,"
)
_CELLS += " 1750000000000 AS at_ms FROM unnest(%s::uuid[]) AS s(id) CROSS JOIN (SELECT id FROM concepts WHERE school_id = %s) AS c"
_READ_CELLS = "SELECT student_id::text, concept_id::text, score, level, answers, at_ms FROM floor_cells"


def measure(stage: Stage) -> Result:
    """The heat map from the database to its JSON, in this process; with what it reads kept up before, as a server does after a push."""
    rows = min(stage.effort.rows, ROWS_MAX)
    with stage.database() as url, closing(CloudDatabase(url, 2, 2)) as database:
        school = build(database, rows)
        folded_s = seconds(lambda: recount(database, school.id))
        clock = SystemClock()
        figures = ClassFigures(database.narrowed(), clock, IdSource(clock.now_ms))
        with closing(psycopg2.connect(stage.beyond_row_security(url))) as connection:
            pairs = alternate(_floor(connection, school), lambda: seconds(lambda: _open(figures, school)), max(stage.effort.runs, 3))
        pages = _pages(database, school, stage.effort.runs)
        others = {name: seconds(partial(ask, school.id, school.class_id)) * 1_000 for name, ask in _others(figures).items()}
        processor_ms = _processor_s(figures, school) * 1_000
    opened = ratio_of([pair.product_s * 1_000 for pair in pairs])
    against_floor = ratio_of([pair.product_s / pair.floor_s for pair in pairs])
    return Result(
        "analytics",
        [
            *(Check(f"page: {page.name}", page.took_ms, "ms", Bound.AT_MOST, MILLISECONDS_MAX) for page in pages),
            Check(
                f"heat map of 40 × 200, {rows:,} attempts behind it", opened.middle, "ms", Bound.AT_MOST, MILLISECONDS_MAX, opened.spread
            ),
            Check(
                "the same, against reading and writing the cells alone",
                against_floor.middle,
                "×",
                Bound.AT_MOST,
                TIMES_FLOOR_MAX,
                against_floor.spread,
            ),
        ],
        {
            "heat map, processor time of Python, ms": processor_ms,
            **{f"{page.name}, KB plain": page.plain_bytes / 1_000 for page in pages},
            **{f"{page.name}, KB sent": page.sent_bytes / 1_000 for page in pages},
            **{f"{page.name}, processor time of Python, ms": page.processor_ms for page in pages},
            "all attempts counted, µs an attempt": folded_s / rows * 1e6,
            **{f"{name}, ms": ms for name, ms in others.items()},
        },
    )


def _open(figures: ClassFigures, school: AnalyticsSchool) -> bytes:
    return to_json(class_mastery(figures.overview(school.id, school.class_id), 0, len(school.students)))


class _Page(NamedTuple):
    """A page for somebody who is signed in: the middle of some requests, in this process and without the network, compressed as browsers ask for it."""

    name: str
    took_ms: float
    processor_ms: float
    plain_bytes: int
    sent_bytes: int


def _pages(database: CloudDatabase, school: AnalyticsSchool, runs: int) -> list[_Page]:
    clock, person = SystemClock(), "teacher"
    ids = IdSource(clock.now_ms)
    with database.transaction(school=school.id) as cursor:
        create_user(cursor, ids, school.id, person, person, "teacher", [CLASS_NAME], clock.now_ms())
    set_password(database, clock, ids, school.id, person, _PASSWORD)
    client = create_app(CloudConfig(), database).test_client()
    token = client.post("/v1/sessions", json={"school": school.id, "username": person, "password": _PASSWORD}).get_json()["token"]
    own = f"/pages/classes/{school.class_id}"
    paths = {**_PAGES, "one student": f"/students/{school.students[0]}"}
    return [_page(client, name, own + path, {"Authorization": f"Bearer {token}"}, runs) for name, path in paths.items()]


def _page(client: FlaskClient, name: str, path: str, headers: dict[str, str], runs: int) -> _Page:
    plain = client.get(path, headers=headers)  # which compiles the templates
    if plain.status_code != 200:
        raise CarrelError(f"The page {name} was answered with {plain.status_code}.")
    took_ms, processor_ms, sent = [], [], 0
    for _ in range(runs):
        started_s, worked_s = time.perf_counter(), time.process_time()
        answer = client.get(path, headers={**headers, "Accept-Encoding": "gzip"})
        took_ms.append((time.perf_counter() - started_s) * 1_000)
        processor_ms.append((time.process_time() - worked_s) * 1_000)
        sent = len(answer.data)
    return _Page(name, median(took_ms), median(processor_ms), len(plain.data), sent)


def _processor_s(figures: ClassFigures, school: AnalyticsSchool) -> float:
    """What of it is this process's own work, whatever else the machine does."""
    started_s = time.process_time()
    _open(figures, school)
    return time.process_time() - started_s


def _others(figures: ClassFigures) -> dict[str, Callable[[str, str], object]]:
    return {
        "needs help": figures.needs_help,
        "items": figures.items,
        "wrong answers": figures.wrong_answers,
        "time": figures.time,
        "curves": figures.curves,
        "groups": figures.groups,
        "off plan": figures.off_plan,
        "out of reach": figures.out_of_reach,
    }


def _floor(connection: psycopg2.extensions.connection, school: AnalyticsSchool) -> Callable[[], float]:
    """Reads the cells from a table with a row for each, and writes them with the standard library's JSON."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_CELLS, (list(school.students), school.id))

    def read() -> None:
        with connection, connection.cursor() as cursor:
            cursor.execute(_READ_CELLS)
            json.dumps(cursor.fetchall())

    return lambda: seconds(read)
