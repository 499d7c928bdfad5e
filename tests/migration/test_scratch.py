"""Scratch databases of a server: never another than their own, and none left for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import psycopg2
import pytest

from cloud_api.embedded import DatabaseServer
from domain.errors import OperatorError
from migrations import scratch
from migrations.engines import with_database
from migrations.scratch import NAME_PREFIX, STALE_AFTER_S, server_scratch
from tests.migration.conftest import Target

NAMES = "SELECT datname FROM pg_database WHERE datname LIKE 'carrel#_scratch#_%%' ESCAPE '#' ORDER BY 1"


def name_made(cloud: Target, seconds_ago: float, token: str) -> str:
    """The name of a scratch database that was made so long ago."""
    ((now_s,),) = cloud.sql("SELECT extract(epoch FROM clock_timestamp())::bigint")
    return f"{NAME_PREFIX}{int(now_s - seconds_ago):08x}_{token}"


@pytest.fixture
def made(cloud: Target, postgres: DatabaseServer) -> Iterator[dict[str, str]]:
    """Databases that lie on the server: what a killed process left, and what is nobody's business."""
    names = {
        "old": name_made(cloud, STALE_AFTER_S + 60, "aaaaaaaaaaaa"),
        "old and used": name_made(cloud, STALE_AFTER_S + 60, "bbbbbbbbbbbb"),
        "young": name_made(cloud, STALE_AFTER_S / 2, "cccccccccccc"),
        "of somebody else": f"{NAME_PREFIX}of_somebody_else",
    }
    for name in names.values():
        postgres.create_database(name)
    yield names
    for name in names.values():
        postgres.drop_database(name)


def test_what_a_killed_process_left_is_dropped_by_the_next_and_nothing_else(cloud: Target, made: dict[str, str]) -> None:
    with closing(psycopg2.connect(cloud.url.rpartition("/")[0] + "/" + made["old and used"])), server_scratch(cloud.url)() as url:
        own = url.rpartition("/")[2]
        assert {name for (name,) in cloud.sql(NAMES)} == {*made.values(), own} - {made["old"]}
    assert own not in {name for (name,) in cloud.sql(NAMES)}


def test_databases_of_another_user_are_left_alone(cloud: Target, made: dict[str, str]) -> None:
    cloud.sql("CREATE ROLE carrel_test_scratcher LOGIN CREATEDB PASSWORD 'scratch'")
    try:
        with server_scratch(cloud.url.replace(user_of(cloud), "carrel_test_scratcher:scratch", 1))():
            assert made["old"] in {name for (name,) in cloud.sql(NAMES)}
    finally:
        cloud.sql("DROP ROLE carrel_test_scratcher")


def user_of(cloud: Target) -> str:
    return cloud.url.removeprefix("postgresql://").partition("@")[0]


@pytest.mark.parametrize("extra", ["dbname={name}", "connect_timeout=5&dbname={name}&application_name=x"])
def test_a_name_in_the_query_of_the_address_does_not_lead_back_to_the_real_database(cloud: Target, extra: str) -> None:
    """There it would count more than the one in the path, and what is tried out in a scratch database is also taken back."""
    base, _, name = cloud.url.rpartition("/")
    address = f"{base}/postgres?{extra.format(name=quote(name))}"
    with server_scratch(address)() as url, closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        row = cursor.fetchone()
        assert row
        assert row[0].startswith(NAME_PREFIX)


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("postgresql:///carrel?host=/run/postgresql", "postgresql:///b%20b?host=/run/postgresql"),
        (
            "postgres://a:p%40w@h1,h2:5433/carrel?target_session_attrs=read-write",
            "postgres://a:p%40w@h1,h2:5433/b%20b?target_session_attrs=read-write",
        ),
        ("postgresql://h", "postgresql://h/b%20b"),
    ],
)
def test_the_address_of_another_database_is_that_of_the_same_server(address: str, other: str) -> None:
    assert with_database(address, "b b") == other


def test_an_address_that_leads_to_one_database_whatever_its_name_is_refused(cloud: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a pooler may."""
    monkeypatch.setattr(scratch, "with_database", lambda url, name: url)
    with pytest.raises(OperatorError, match="leads to one database, whatever its name"), server_scratch(cloud.url)():
        pytest.fail("the real database was given")
    assert cloud.sql(NAMES) == []
