"""What must stay private is sent to the school's server by the thousand, whole and broken, while things inside fail: none of it is in a log."""

from __future__ import annotations

import io
import logging
import os
import random
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient

from cloud_api.app import create_app
from cloud_api.config import CloudConfig, Server
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.openapi import OPERATIONS
from cloud_api.serving import logs
from domain.bodies import to_json
from domain.wire import ClockReading, PushRequest, Run
from tests.support.cloud import SchoolBuilder
from tests.support.postgres import temporary_data_dir

CANARIES = ("canary-name", "canary-answer", "canary-token", "canary-password", "canary-code")
REQUESTS = 3_000
BOOT = "0d9f1c2b3a4958677869504132231405"


@pytest.fixture(params=[False, True], ids=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """All that this process logs, at the most talkative level, as the server would write it."""
    written, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.Format(as_json=request.param))
    level, before = root.level, root.handlers[:]
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(level)
    root.handlers[:] = before


def push(school: SchoolBuilder, student: str) -> bytes:
    """An attempt whose answer is a canary."""
    fields = {
        "student_id": {"c": student}, "question_id": {"c": school.ids.new()}, "answer": ["canary-answer"], "correct": [True],
        "answered_at_ms": [1_700_000_000_000], "active_ms": [None], "confidence": [None], "purpose": ["free"], "device_id": {"c": school.ids.new()},
    }  # fmt: skip
    run = Run("question_attempts", "insert", 1, 1, {"x": school.ids.new()}, {"c": 1}, {"c": 1}, {"c": BOOT}, {"c": 0}, fields)
    return to_json(PushRequest(1, school.ids.new(), 1, "0" * 32, ClockReading(1, 1, BOOT), [run]))


def ask(client: FlaskClient, draw: random.Random, token: str, body: bytes) -> int:
    """One request with canaries wherever something can be put."""
    operation = draw.choice(OPERATIONS)
    path = operation.path.replace("{", "").replace("}", "") if draw.random() < 0.5 else f"/{draw.choice(CANARIES)}"
    bodies = [body, body[: draw.randrange(len(body))], b'{"code": "canary-code", "device_name": "canary-name"}', b"canary-answer",
              b'{"school": "canary-name", "username": "canary-name", "password": "canary-password"}']  # fmt: skip
    headers = {
        "Authorization": f"Bearer {draw.choice([token, 'canary-token'])}",
        "X-Request-Id": draw.choice(["canary-token!", "ok-0123456789"]),
        "Content-Encoding": draw.choice(["", "", "gzip", "canary-answer"]),
    }
    options: dict[str, Any] = {"data": draw.choice(bodies)} if operation.method == "POST" else {}
    answer = client.open(
        path,
        method=operation.method,
        headers=headers,
        query_string={"canary-name": "canary-answer"},
        content_type="application/json",
        **options,
    )
    return answer.status_code


def fails(*values: Any, **named: Any) -> None:
    """Fails as careless code does: with what it was given in its message."""
    raise RuntimeError(f"cannot take {values} {named} {CANARIES}")


def refused_by_postgres(cursor: Any, *values: Any, **named: Any) -> None:
    """Fails as PostgreSQL does, which quotes the values."""
    cursor.execute("SELECT %s::integer", (CANARIES[1],))  # the way to an error shows lines of code


def test_names_answers_and_tokens_are_in_no_log_whatever_fails(
    open_cloud_database: CloudDatabase, cloud_school: SchoolBuilder, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = cloud_school.add_user("canary-name").id
    token = cloud_school.enrol(Grant("student", student), name="canary-name").token
    app = create_app(CloudConfig(server=Server(token_requests_per_s=10_000)), open_cloud_database)
    draw, client, body = random.Random(11), app.test_client(), push(cloud_school, student)
    statuses = {ask(client, draw, token, body) for _ in range(REQUESTS // 2)}
    assert {401, 404} < statuses
    for broken in (fails, refused_by_postgres):
        with monkeypatch.context() as patched:
            patched.setattr("cloud_api.sync.push.keep_letters", broken)
            assert (
                client.post(
                    "/v1/sync/push", data=body, headers={"Authorization": f"Bearer {token}"}, content_type="application/json"
                ).status_code
                == 500
            )
    written = log.getvalue()
    assert "RuntimeError" in written
    assert "InvalidTextRepresentation" in written
    assert [canary for canary in CANARIES if canary in written] == []
    assert token not in written


def test_what_gunicorn_itself_refuses_is_in_no_log_either(cloud_database: str) -> None:
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
    environ = os.environ | {"DATABASE_URL": cloud_database, "CARREL_CLOUD_LOG_LEVEL": "debug", "CARREL_CLOUD_LOG_FORMAT": "json"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert select.select([process.stdout], [], [], 60)[0]
        port = int(process.stdout.readline().rpartition(":")[2])
        for request in (
            b"canary-token\r\n\r\n",
            b"GET /canary-name HTTP/9\r\n\r\n",
            b"GET / HTTP/1.1\r\ncanary-token\r\n\r\n",
            b"GET / HTTP/1.1\r\nAuthorization : canary-token\r\n\r\n",
            b"POST /v1/devices/enrol?canary-code HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ncanary-answer\r\n",
        ):
            with closing(socket.create_connection(("127.0.0.1", port), 20)) as sock, suppress(OSError):
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass
        process.terminate()
        written = process.stderr.read()
        process.wait(60)
    assert "a request was refused" in written
    assert [canary for canary in CANARIES if canary in written] == []


def test_the_embedded_postgres_writes_no_value_into_its_log() -> None:
    from cloud_api.embedded import EmbeddedPostgres

    with temporary_data_dir() as data_dir:
        with EmbeddedPostgres.start(data_dir, durable=False) as server:
            url = server.create_database("carrel")
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute("CREATE TABLE names (name text PRIMARY KEY)")
                cursor.execute("INSERT INTO names VALUES ('canary-name')")
                with pytest.raises(psycopg2.errors.UniqueViolation):
                    cursor.execute("INSERT INTO names VALUES ('canary-name')")
        written = b"".join(path.read_bytes() for path in Path(data_dir).glob("server.log*"))
    assert b"duplicate key" in written
    assert b"canary" not in written
