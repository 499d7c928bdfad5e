"""The wall between schools behind pgbouncer in transaction mode, where requests of all schools share a few sessions."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from cloud_api.config import Database as DatabaseSettings
from cloud_api.database import CloudDatabase
from tests.chaos.postgres import pgbouncer, running_postgres, without_pgbouncer
from tests.support.cloud import SchoolBuilder
from tests.support.postgres import temporary_data_dir

SCHOOLS, TURNS = 4, 25


@pytest.mark.skipif(bool(without_pgbouncer()), reason=str(without_pgbouncer()))
def test_no_request_sees_what_another_left_in_the_session_that_they_share() -> None:
    with temporary_data_dir() as folder, running_postgres(Path(folder.parent)) as postgres:
        with closing(CloudDatabase(postgres.url)) as direct:
            schools = [SchoolBuilder.build(direct) for _ in range(SCHOOLS)]
            for school in schools:
                school.add_user("ada")
        with pgbouncer(postgres, folder.parent) as url:
            bounced = CloudDatabase(url, settings=DatabaseSettings(startup_options=False))
            with closing(bounced):
                seen, unbound = _crowd(bounced.narrowed(), [school.id for school in schools])
    assert seen == {school.id: {school.id} for school in schools}
    assert unbound == set()


def _crowd(database: CloudDatabase, schools: list[str]) -> tuple[dict[str, set[str]], set[str]]:
    """Which schools' users were seen by transactions about each school, and by those about none; many at the same time."""
    seen: dict[str, set[str]] = {school: set() for school in schools}
    unbound: set[str] = set()

    def look(school: str | None, into: set[str]) -> None:
        for _ in range(TURNS):
            with database.transaction(read_only=True, school=school) as cursor:
                cursor.execute("SELECT school_id FROM users")
                into.update(row[0] for row in cursor.fetchall())

    threads = [threading.Thread(target=look, args=(school, seen[school])) for school in schools for _ in range(2)]
    threads += [threading.Thread(target=look, args=(None, unbound)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen, unbound
