"""question_attempts as monthly range partitions by id, reached while the school works: `python -m migrations.partitioning`.

Ids are UUIDv7: they begin with the millisecond at which the row was made, so that ranges of ids are ranges of time, and the primary key
(school_id, id) holds for the partitioned table as it is.

    convert     The table becomes the default partition of a new, empty, partitioned one of its name. Nothing is copied or scanned: a default
                partition alone may hold anything. One transaction of catalogue changes.
    add_month   A month of the future gets a partition of its own, in three transactions:
        hold        changes of the month's rows are held back, and a constraint says that the default partition has none
        validate    the constraint is validated, while everybody works
        attach      the partition is made and attached, the hold ends. If the default partition has rows of the month (devices whose
                    clock is ahead), they are moved in this transaction first, so that no reader ever misses them.

Nothing is ever refused for good meanwhile. A change of a row of the month that is being added meets a trigger that raises
serialization_failure, which the cloud API takes for what it is: try again.

Locks. Each step is a transaction and can be broken off and repeated. Locks are waited for only briefly, again and again, since everybody else
queues up behind whoever waits for an exclusive lock. Autovacuum gives way only after a second, so a lock that stops nobody but autovacuum is
taken first. And whoever has read the table holds a lock on it and its partitions until the end of the transaction: attach takes
all of the table before it waits for a partition, since a transaction that wants to write what it has read would else wait for it in turn.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import peewee as pw

from domain.clock import Clock, SystemClock
from domain.errors import SchemaError, Unavailable
from migrations import table_parts as parts
from migrations.engines import Limits, PostgresEngine, first_line
from migrations.upkeep import carry_out, upkeep_parser
from migrations.waiting import SILENCE, Activity

TABLE = "question_attempts"
DEFAULT = f"{TABLE}_default"
# So many months beyond the running one have a partition before their first row comes.
MONTHS_AHEAD = 3
MONTHS_AHEAD_MAX = 120
HOLD = "hold_attempts_of_a_month"

_VALIDATE = f"ALTER TABLE {DEFAULT} VALIDATE CONSTRAINT {HOLD}"
# Set by the transaction that moves rows, whose deletions are not held back.
_MOVING = "carrel.moves_attempts"
_NOT_MOVING = f"current_setting('{_MOVING}', true) IS DISTINCT FROM 'on'"


class Month(NamedTuple):
    """A calendar month in UTC; they sort by time."""

    year: int
    month: int

    def after(self, months: int) -> Month:
        """The month so many months later."""
        years, zero_based = divmod(self.month - 1 + months, 12)
        return Month(self.year + years, zero_based + 1)

    @property
    def first_id(self) -> str:
        """The smallest UUIDv7 that can be made in the month: its first millisecond, and zeros (RFC 9562, section 5.7)."""
        ms = int(datetime(self.year, self.month, 1, tzinfo=UTC).timestamp() * 1000)
        return str(uuid.UUID(int=ms << 80))

    @property
    def partition(self) -> str:
        """The name of its partition."""
        return f"{TABLE}_{self.year:04}_{self.month:02}"

    def holds(self, column: str) -> str:
        """A condition: the id in `column` was made in this month."""
        return f"{column} >= '{self.first_id}' AND {column} < '{self.after(1).first_id}'"


class Partitioning:
    """The steps, over one direct connection. Not for several threads."""

    def __init__(
        self, engine: PostgresEngine, limits: Limits | None = None, clock: Clock | None = None, activity: Activity = SILENCE
    ) -> None:
        self._engine = engine
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._activity = activity

    def run(self, months_ahead: int = MONTHS_AHEAD) -> list[str]:
        """Converts the table if that was not done, and adds the months that are missing. Returns the names of new partitions.

        Raises Unavailable when a lock could not be had, AlreadyRunning while another process migrates, SchemaError when the table is not
        there, has foreign keys, or PostgreSQL refuses. After any of them it may be run again, and should be if the process was killed: what
        it held back is let go by the next run.
        """
        with self._engine.locked():
            try:
                if not self.is_partitioned():
                    with self._activity.during(f"making {TABLE} a partition"):
                        self._convert()
                return [self._add_month(month) for month in self._missing(months_ahead)]
            except pw.PeeweeException as error:
                raise SchemaError(f"{TABLE} was not partitioned further, run it again: {first_line(error)}.") from error

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

    def _missing(self, months_ahead: int) -> list[Month]:
        """The months from the next one on that have no partition. The running one stays in the default partition: its rows are there."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        there = set(self.partitions())
        months = [Month(now.year, now.month).after(ahead) for ahead in range(1, months_ahead + 1)]
        return [month for month in months if month.partition not in there]

    def _convert(self) -> None:
        def convert() -> None:
            self._lock(TABLE)
            self._demand_no_foreign_keys()
            indexes, triggers = parts.indexes(self._execute, TABLE), parts.triggers(self._execute, TABLE)
            permissions = parts.permissions(self._execute, TABLE)
            for name, _ in indexes:  # their names are wanted for those of the partitioned table; a constraint's goes with its index
                self._execute(f"ALTER INDEX {name} RENAME TO {name}_default")
            self._execute(f"ALTER TABLE {TABLE} RENAME TO {DEFAULT}")
            like = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMMENTS"
            self._execute(f"CREATE TABLE {TABLE} (LIKE {DEFAULT} {like}) PARTITION BY RANGE (id)")
            self._run(statement for _, statement in indexes)
            self._run(f"DROP TRIGGER {name} ON {DEFAULT}" for name, _ in triggers)  # those for each row come back through the table's
            self._execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {DEFAULT} DEFAULT")
            self._run(statement for _, statement in triggers)
            self._run([*permissions, *parts.guard(self._execute, DEFAULT, to=TABLE)])

        self._in_transaction(convert)

    def _demand_no_foreign_keys(self) -> None:
        if names := parts.foreign_keys(self._execute, TABLE):
            raise SchemaError(f"{TABLE} has foreign keys, which would stay with its old rows: {', '.join(names)}.")

    def _add_month(self, month: Month) -> str:
        with self._activity.during(f"adding {month.partition}"):
            self._in_transaction(lambda: self._hold(month))
            try:
                is_clear = self._validate()
                self._in_transaction(lambda: self._attach(month, is_clear=is_clear))
            except BaseException:
                self._in_transaction(self._let_go)
                raise
        return month.partition

    def _hold(self, month: Month) -> None:
        """From here on nobody else changes a row of the month in the default partition."""
        self._let_go()  # what a run that was broken off left
        self._execute(
            f"CREATE FUNCTION {HOLD}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" RAISE serialization_failure USING MESSAGE = 'a partition is being added: try again'; END $$"
        )
        for events, row, unless in (("INSERT OR UPDATE", "NEW", ""), ("DELETE", "OLD", f" AND {_NOT_MOVING}")):
            self._execute(
                f"CREATE TRIGGER {HOLD}_{row} BEFORE {events} ON {DEFAULT} FOR EACH ROW"
                f" WHEN ({month.holds(f'{row}.id')}{unless}) EXECUTE FUNCTION {HOLD}()"
            )
        self._execute(f"ALTER TABLE {DEFAULT} ADD CONSTRAINT {HOLD} CHECK (NOT (id IS NOT NULL AND {month.holds('id')})) NOT VALID")

    def _validate(self) -> bool:
        """Scans the default partition, while everybody works. Returns whether it has no row of the month that is held back."""
        try:
            self._in_transaction(lambda: self._execute(_VALIDATE))
        except pw.IntegrityError:
            return False
        return True

    def _attach(self, month: Month, *, is_clear: bool) -> None:
        self._execute(f"LOCK TABLE {DEFAULT} IN SHARE UPDATE EXCLUSIVE MODE")
        self._execute(f"CREATE TABLE {month.partition} (LIKE {TABLE} INCLUDING ALL)")
        if not is_clear:
            self._move(month)
            self._execute(_VALIDATE)
        self._run(parts.guard(self._execute, TABLE, to=month.partition))
        # From here on nobody reads or writes, for an instant: the constraint spares PostgreSQL to look at the rows.
        self._execute(f"LOCK TABLE ONLY {TABLE} IN ACCESS EXCLUSIVE MODE")
        self._execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {month.partition} FOR VALUES FROM ('{month.first_id}') TO ('{month.after(1).first_id}')"
        )
        self._let_go()

    def _move(self, month: Month) -> None:
        # Rows that a policy hides from the mover stay, and are an error at the validation that follows, not a loss.
        self._execute(f"SET LOCAL {_MOVING} = 'on'")
        rows = f"DELETE FROM {DEFAULT} WHERE {month.holds('id')} RETURNING *"
        self._execute(f"WITH moved AS ({rows}) INSERT INTO {month.partition} SELECT * FROM moved")

    def _let_go(self) -> None:
        self._lock(DEFAULT)
        self._execute(f"ALTER TABLE {DEFAULT} DROP CONSTRAINT IF EXISTS {HOLD}")
        self._execute(f"DROP FUNCTION IF EXISTS {HOLD}() CASCADE")  # with its triggers

    def _run(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self._execute(statement)

    def _lock(self, table: str) -> None:
        """The table alone for this transaction, and autovacuum out of the way before anybody has to wait."""
        for mode in ("SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"):
            self._execute(f"LOCK TABLE ONLY {table} IN {mode} MODE")

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
    parser = upkeep_parser("migrations.partitioning", __doc__)
    parser.add_argument(
        "--months", type=int, default=MONTHS_AHEAD, choices=range(1, MONTHS_AHEAD_MAX + 1), metavar="N", help="months ahead"
    )
    options = parser.parse_args(arguments)

    def add_months(engine: PostgresEngine, limits: Limits, waiting: Activity) -> Iterable[str]:
        return Partitioning(engine, limits, activity=waiting).run(options.months)

    return carry_out(parser, options.url, "added", add_months)


if __name__ == "__main__":
    sys.exit(main())
