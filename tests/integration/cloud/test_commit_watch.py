"""What waits too long while it is watched is called off; `tests/chaos/test_postgres.py` shows it with a standby that stalls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from cloud_api.commit_watch import CommitWatch

FAR_TOO_LONG_S = 60


@pytest.fixture
def impatient() -> Iterator[CommitWatch]:
    watch = CommitWatch(wait_max_s=0.0)
    yield watch
    watch.close()


def test_what_waits_too_long_is_called_off_and_the_connection_goes_on(fresh_database: str, impatient: CommitWatch) -> None:
    with closing(psycopg2.connect(fresh_database)) as connection, connection.cursor() as cursor:
        with pytest.raises(errors.QueryCanceled), impatient.over(connection):
            cursor.execute("SELECT pg_sleep(%s)", (FAR_TOO_LONG_S,))
        connection.rollback()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_what_is_over_is_left_alone(fresh_database: str, impatient: CommitWatch) -> None:
    with closing(psycopg2.connect(fresh_database)) as watched, closing(psycopg2.connect(fresh_database)) as other:
        with impatient.over(watched):
            pass
        with watched.cursor() as cursor, other.cursor() as slow:
            with pytest.raises(errors.QueryCanceled), impatient.over(other):
                cursor.execute("SELECT 1")
                slow.execute("SELECT pg_sleep(%s)", (FAR_TOO_LONG_S,))
            cursor.execute("SELECT 2")
            assert cursor.fetchone() == (2,)
