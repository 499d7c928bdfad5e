"""question_attempts as monthly range partitions by id, reached while the school works: `python -m migrations.partitioning`.

Ids are UUIDv7: they begin with the millisecond at which the row was made, so that ranges of ids are ranges of time, and the primary key
(school_id, id) holds for the partitioned table as it is.

    convert     The table becomes the default partition of a new, empty, partitioned one of its name. Nothing is copied or scanned: a default
                partition alone may hold anything. One transaction of catalogue changes.
    add_month   A month of the future gets a partition of its own. That no row of it lies in the default partition is validated without
                blocking anybody; the few that do (devices whose clock is ahead) are moved.

Nothing is ever refused for good meanwhile. While a month is being added, a row of that very month meets a trigger that raises
serialization_failure, which the cloud API takes for what it is: try again.

Each step is a transaction and can be broken off and repeated. Locks are waited for only briefly, again and again, since everybody else
queues up behind whoever waits for an exclusive lock.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import peewee as pw

from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, SchemaError, Unavailable
from migrations.engines import Limits, PostgresEngine, first_line

TABLE = "question_attempts"
DEFAULT = f"{TABLE}_default"
CHECK_TRIGGER = "attempts_refer_to_rows"
# So many months beyond the running one have a partition before their first row comes.
MONTHS_AHEAD = 3
MONTHS_AHEAD_MAX = 120
HOLD = "hold_attempts_of_a_month"

Statements = Sequence[str]


def month_after(year: int, month: int, months: int) -> tuple[int, int]:
    """The month so many months later."""
    years, zero_based = divmod(month - 1 + months, 12)
    return year + years, zero_based + 1


def first_id(year: int, month: int) -> str:
    """The smallest UUIDv7 that can be made in a month (UTC): its milliseconds, and zeros (RFC 9562, section 5.7)."""
    ms = int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)
    return str(uuid.UUID(int=ms << 80))


def partition_name(year: int, month: int) -> str:
    return f"{TABLE}_{year:04}_{month:02}"


class Partitioning:
    """The steps, over one direct connection. Not for several threads."""

    def __init__(self, engine: PostgresEngine, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._engine = engine
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()

    def run(self, months_ahead: int = MONTHS_AHEAD) -> list[str]:
        """Converts the table if that was not done, and adds the months that are missing. Returns the names of new partitions.

        Raises Unavailable when a lock could not be had, AlreadyRunning while another process migrates, SchemaError when the table is not
        there or PostgreSQL refuses.
        """
        with self._engine.locked():
            try:
                if not self.is_partitioned():
                    self._convert()
                return [name for month in self._missing(months_ahead) if (name := self._add_month(*month))]
            except pw.PeeweeException as error:
                raise SchemaError(f"{TABLE} was not partitioned further: {first_line(error)}.") from error

    def is_partitioned(self) -> bool:
        """Raises SchemaError when there is no such table."""
        row = self._execute("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", TABLE).fetchone()
        if row is None:
            raise SchemaError(f"There is no table {TABLE}: migrate the database first.")
        return bool(row[0] == "p")

    def partitions(self) -> list[str]:
        """The names of the partitions, sorted."""
        rows = self._execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s) ORDER BY 1", TABLE)
        return [name for (name,) in rows.fetchall()]

    def _missing(self, months_ahead: int) -> list[tuple[int, int]]:
        """The months from the next one on that have no partition. The running one stays in the default partition: its rows are there."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        there = set(self.partitions())
        months = [month_after(now.year, now.month, ahead) for ahead in range(1, months_ahead + 1)]
        return [month for month in months if partition_name(*month) not in there]

    def _convert(self) -> None:
        def convert() -> None:
            self._execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            indexes = self._indexes(TABLE)
            trigger = self._trigger()
            for name, _ in indexes:  # their names are wanted for those of the partitioned table; a constraint's goes with its index
                self._execute(f"ALTER INDEX {name} RENAME TO {name}_default")
            self._execute(f"ALTER TABLE {TABLE} RENAME TO {DEFAULT}")
            like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMMENTS"
            self._execute(f"CREATE TABLE {TABLE} (LIKE {DEFAULT} {like}) PARTITION BY RANGE (id)")
            for name, definition in indexes:
                self._execute(definition if definition.startswith("CREATE") else f"ALTER TABLE {TABLE} ADD CONSTRAINT {name} {definition}")
            self._execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {DEFAULT} DEFAULT")
            self._execute(f"DROP TRIGGER {CHECK_TRIGGER} ON {DEFAULT}")
            self._execute(trigger)

        self._in_transaction(convert)

    def _indexes(self, table: str) -> list[tuple[str, str]]:
        """(name, how to make it on a table of this name) of each index: CREATE INDEX …, or a constraint's definition."""
        rows = self._execute(
            "SELECT i.relname, coalesce(pg_get_constraintdef(c.oid), pg_get_indexdef(i.oid)) FROM pg_index x"
            " JOIN pg_class i ON i.oid = x.indexrelid LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u')"
            " WHERE x.indrelid = to_regclass(%s) ORDER BY 1",
            table,
        )
        return [(name, definition) for name, definition in rows.fetchall()]

    def _trigger(self) -> str:
        query = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s"
        row = self._execute(query, TABLE, CHECK_TRIGGER).fetchone()
        if row is None:
            raise SchemaError(f"The trigger {CHECK_TRIGGER} of {TABLE} is missing: migrate the database first.")
        return str(row[0])

    def _add_month(self, year: int, month: int) -> str:
        """Two transactions: hold back rows of the month; then validate, move, attach, let go."""
        name = partition_name(year, month)
        low, high = first_id(year, month), first_id(*month_after(year, month, 1))
        within = f"id >= '{low}' AND id < '{high}'"

        def hold() -> None:
            self._let_go()  # what a run that was broken off left
            self._execute(
                f"CREATE OR REPLACE FUNCTION {HOLD}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" RAISE serialization_failure USING MESSAGE = 'a partition is being added: try again'; END $$"
            )
            held = within.replace("id", "NEW.id")
            self._execute(f"CREATE TRIGGER {HOLD} BEFORE INSERT ON {DEFAULT} FOR EACH ROW WHEN ({held}) EXECUTE FUNCTION {HOLD}()")
            self._execute(f"ALTER TABLE {DEFAULT} ADD CONSTRAINT {HOLD} CHECK (NOT (id IS NOT NULL AND {within})) NOT VALID")

        def attach() -> None:
            # No lock before that on the whole table is one that a reader or writer would notice; from there on it is an instant.
            self._execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
            self._execute(f"INSERT INTO {name} SELECT * FROM {DEFAULT} WHERE {within}")
            self._execute(f"DELETE FROM {DEFAULT} WHERE {within}")
            self._execute(f"ALTER TABLE {DEFAULT} VALIDATE CONSTRAINT {HOLD}")
            # A row on its way into the default partition at the moment of ATTACH would be refused by PostgreSQL; so nobody is on the way.
            self._execute(f"LOCK TABLE ONLY {TABLE} IN SHARE ROW EXCLUSIVE MODE")
            self._execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
            self._let_go()

        self._in_transaction(hold)
        try:
            self._in_transaction(attach)
        except BaseException:
            self._in_transaction(self._let_go)
            raise
        return name

    def _let_go(self) -> None:
        self._execute(f"ALTER TABLE {DEFAULT} DROP CONSTRAINT IF EXISTS {HOLD}")
        self._execute(f"DROP TRIGGER IF EXISTS {HOLD} ON {DEFAULT}")
        self._execute(f"DROP FUNCTION IF EXISTS {HOLD}()")

    def _in_transaction(self, work: Callable[[], None]) -> None:
        """Runs `work` in a transaction; again, from its beginning, while another transaction holds a table of it."""
        for attempt in range(1, self._limits.attempts + 1):
            try:
                with self._engine.atomic():
                    work()
                return
            except pw.PeeweeException as error:
                if not self._engine.is_blocked(error):
                    raise
                if attempt == self._limits.attempts:
                    message = f"{TABLE} could not be locked in {attempt} attempts: try again when there is less traffic."
                    raise Unavailable(message) from error
            time.sleep(self._limits.retry_pause_s)

    def _execute(self, statement: str, *parameters: Any) -> Any:
        return self._engine.database.execute_sql(statement, parameters or None)


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m migrations.partitioning [--url URL] [--months N]`. To be run each month, or oftener; what is done is not done again."""
    parser = argparse.ArgumentParser(prog="python -m migrations.partitioning", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--url", default=os.environ.get("DATABASE_URL"), help="postgresql://…; otherwise DATABASE_URL")
    parser.add_argument(
        "--months", type=int, default=MONTHS_AHEAD, choices=range(1, MONTHS_AHEAD_MAX + 1), metavar="N", help="months ahead"
    )
    options = parser.parse_args(arguments)
    if not options.url:
        parser.error("give --url postgresql://…, or set DATABASE_URL")
    limits = Limits()
    engine = PostgresEngine(options.url, limits)
    try:
        for name in Partitioning(engine, limits).run(options.months):
            print(f"added {name}")
    except CarrelError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
