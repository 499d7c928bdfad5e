"""What was answered, let go of in its time: the retention of what students wrote (docs/decisions/0020).

An attempt stays, for mastery is a fold over all of them; what the fold does not read becomes null (`Column.let_go` in the registry). Which attempts
are old is told by their feed numbers: the server gives them in the order in which attempts came, nobody's clock has a say, and every device knows
them. So all that devices must be told is one number (domain/wire.py, `AnswersLetGo`).

Each step takes the next numbers of the feed, in one transaction with the number that says so: whoever reads in one snapshot sees both or neither.
Figures of classes that hold the same texts are dropped with them, and counted anew from what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from psycopg2.extras import execute_values

from cloud_api import audit
from cloud_api.analytics import storage
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.publication import lock_for_editing
from cloud_api.sync import feed
from cloud_api.sync.letters import without_answer
from domain.clock import Clock
from domain.ids import IdSource
from domain.registry import TABLES

T = TypeVar("T")

DAY_MS = 24 * 3600 * 1000
# Feed numbers, or dead letters, of one step; steps that one run makes for one school.
STEP_ROWS_MAX = 5_000
STEPS_MAX = 1_000
# Every time that a school lets go, tables and the files of all its devices are written anew. So it does that now and then: as often as a tenth of
# the time says, and every four weeks at the most seldom.
EVERY_PART, EVERY_DAYS_MAX = 10, 28

# The tables that hold what was answered: to be written anew afterwards.
TABLES_WRITTEN = ("dead_letters", "question_attempts", "student_figures")
_TABLE = TABLES["question_attempts"]
# What a newer app says of an answer goes with it: nobody here knows what it is.
_COLUMNS = (*_TABLE.let_go, "_extra")
_NULL = ", ".join(f"{name} = NULL" for name in _COLUMNS)
_HELD = " OR ".join(f"a.{name} IS NOT NULL" for name in _COLUMNS)
_IN_REACH = "a.school_id = %(school)s AND a.feed_no > %(after)s AND a.feed_no <= %(through)s"
# LATERAL and LIMIT lead PostgreSQL to the feed's index also where it knows nothing of the table: in a database that was restored just now.
_REACHED = f"""
FROM users u CROSS JOIN LATERAL (
     SELECT a.ctid AS place FROM question_attempts a WHERE {_IN_REACH} AND a.student_id = u.id ORDER BY a.feed_no LIMIT %(most)s) AS reached
WHERE u.school_id = %(school)s
"""
# By their places in the table, of one moment: of thousands of ids PostgreSQL would rather read all of it.
_BLANK = f"UPDATE question_attempts a SET {_NULL} WHERE a.ctid = ANY(ARRAY(SELECT reached.place {_REACHED})) AND {_IN_REACH} AND ({_HELD})"


@dataclass(frozen=True, slots=True)
class LetGo:
    """What one run let go of: of how many attempts and dead letters; `more` says that it stopped at its limit."""

    attempts: int = 0
    letters: int = 0
    more: bool = False

    @property
    def rows(self) -> int:
        """Both together."""
        return self.attempts + self.letters


@dataclass(frozen=True, slots=True)
class _Goal:
    """How far a school is to let go: of attempts numbered up to `wanted_no`, and of letters that came from `after_ms` up to before `before_ms`."""

    wanted_no: int
    after_ms: int
    before_ms: int


@dataclass(frozen=True, slots=True)
class _Standing:
    """How far a school has let go: a row of `answers_let_go`."""

    through_no: int = 0
    wanted_no: int = 0
    before_ms: int = 0


def let_answers_go(database: CloudDatabase, clock: Clock, ids: IdSource, school_id: str, days: int) -> LetGo:
    """One run for one school: lets go of what came `days` ago and before. Again, it does nothing while nothing more is due."""
    now_ms = clock.now_ms()
    goal = database.retrying(partial(_goal, school_id=school_id, now_ms=now_ms, days=days), school=school_id)
    if goal is None:
        return LetGo()
    letters, more = _let_letters_go(database, school_id, goal)
    attempts = 0
    for _ in range(0 if more else STEPS_MAX):
        count, done = database.retrying(partial(_step, school_id=school_id, goal=goal), school=school_id)
        attempts += count
        if done:
            break
    else:
        more = True
    database.retrying(partial(_record, ids=ids, school_id=school_id, now_ms=now_ms, counted=(attempts, letters)), school=school_id)
    return LetGo(attempts, letters, more)


def write_anew(database: CloudDatabase, write: Callable[[Sequence[str]], T]) -> T | None:
    """Has `write` write the tables anew that answers were let go of in, if that was not done since, also by a run that was killed. What it says; None
    where nothing was to be done. Where it fails it stays to be done.
    """
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT school_id, feed_no FROM answers_let_go WHERE NOT written")
        due = cursor.fetchall()
    if not due:
        return None
    written = write(TABLES_WRITTEN)

    def note(cursor: Cursor) -> None:
        for school_id, feed_no in due:
            cursor.execute("UPDATE answers_let_go SET written = true WHERE school_id = %s AND feed_no = %s", (school_id, feed_no))

    database.retrying(note)
    return written


def _record(cursor: Cursor, ids: IdSource, school_id: str, now_ms: int, counted: tuple[int, int]) -> None:
    standing = _standing(cursor, school_id)
    detail = {"attempts": counted[0], "dead_letters": counted[1], "through_no": standing.through_no, "before_ms": standing.before_ms}
    audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, "answers.let_go", school_id, detail)


def _standing(cursor: Cursor, school_id: str) -> _Standing:
    cursor.execute("SELECT through_no, wanted_no, before_ms FROM answers_let_go WHERE school_id = %s", (school_id,))
    row = cursor.fetchone()
    return _Standing(*row) if row else _Standing()


def _goal(cursor: Cursor, school_id: str, now_ms: int, days: int) -> _Goal | None:
    """What is to be reached: what an earlier run has begun, or what has become due since; None when neither."""
    standing, before_ms = _standing(cursor, school_id), now_ms - days * DAY_MS
    every_ms = min(max(days // EVERY_PART, 1), EVERY_DAYS_MAX) * DAY_MS
    begun = standing.through_no < standing.wanted_no
    if not begun and before_ms - standing.before_ms < every_ms:
        return None
    before_ms = max(before_ms, standing.before_ms)
    wanted_no = max(standing.wanted_no, feed.number_of(cursor, school_id, before_ms, now_ms))
    goal = _Goal(wanted_no, standing.before_ms, before_ms)
    return goal if wanted_no > standing.through_no or _letters(cursor, school_id, goal.after_ms, before_ms, 1) else None


def _step(cursor: Cursor, school_id: str, goal: _Goal) -> tuple[int, bool]:
    """Lets go of the answers of the next STEP_ROWS_MAX numbers: of how many attempts, and whether the goal is reached."""
    lock_for_editing(cursor, school_id)
    after_no = _standing(cursor, school_id).through_no
    through_no = max(after_no, min(goal.wanted_no, after_no + STEP_ROWS_MAX))
    attempts = _blank(cursor, school_id, after_no, through_no)
    # Last, for taking a number keeps other writers of the school out: it is the one by which devices hear of it.
    cursor.execute(
        "INSERT INTO answers_let_go (school_id, through_no, wanted_no, before_ms, feed_no) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (school_id) DO UPDATE SET through_no = excluded.through_no, wanted_no = excluded.wanted_no,"
        " before_ms = excluded.before_ms, feed_no = excluded.feed_no, written = false",
        (school_id, through_no, goal.wanted_no, goal.before_ms, feed.take(cursor, school_id, 1)),
    )
    return attempts, through_no >= goal.wanted_no


def _blank(cursor: Cursor, school_id: str, after_no: int, through_no: int) -> int:
    """Lets go of the answers with these numbers; of how many attempts. Figures of everybody concerned go, for shares are of what was not let go of;
    whoever counts them is waited for. A roster may have made a teacher of a student since.
    """
    reach = {"school": school_id, "after": after_no, "through": through_no, "most": STEP_ROWS_MAX}
    cursor.execute(f"SELECT DISTINCT u.id {_REACHED} ORDER BY u.id", reach)
    for (student,) in cursor.fetchall():
        storage.forget(cursor, school_id, student)
    cursor.execute(_BLANK, reach)
    return int(cursor.rowcount)


def _let_letters_go(database: CloudDatabase, school_id: str, goal: _Goal) -> tuple[int, bool]:
    """(how many letters were changed, whether there are more than one run takes). What an earlier run has done is passed over, and does not count."""
    changed, steps, after_ms = 0, 0, goal.after_ms
    while steps < STEPS_MAX:
        step = partial(_letters_step, school_id=school_id, after_ms=after_ms, before_ms=goal.before_ms)
        count, reached_ms = database.retrying(step, school=school_id)
        changed += count
        steps += count > 0
        if reached_ms is None:
            return changed, False
        after_ms = reached_ms
    return changed, True


# id, device_id, row_id, kind, payload, received_at_ms
_Letter = tuple[str, str, str, str, str, int]


def _letters(cursor: Cursor, school_id: str, after_ms: int, before_ms: int, rows_max: int) -> Sequence[_Letter]:
    """Letters about attempts that came in that time, oldest first: all of the last millisecond, so that a step may begin with it."""
    cursor.execute(
        "SELECT id, device_id, row_id, kind, payload::text, received_at_ms FROM dead_letters"
        " WHERE school_id = %s AND table_name = %s AND received_at_ms >= %s AND received_at_ms < %s"
        " ORDER BY received_at_ms FETCH FIRST %s ROWS WITH TIES",
        (school_id, _TABLE.name, after_ms, before_ms, rows_max),
    )
    return cursor.fetchall()


def _letters_step(cursor: Cursor, school_id: str, after_ms: int, before_ms: int) -> tuple[int, int | None]:
    """How many letters were changed, and from when on the next step looks on; None: this was the last. A letter is kept as text, so it is
    taken apart here and not by PostgreSQL.
    """
    found = _letters(cursor, school_id, after_ms, before_ms, STEP_ROWS_MAX)
    blanked = [(school_id, letter[0], *without_answer(_TABLE, *letter[:5])) for letter in found]
    changed = [after for letter, after in zip(found, blanked, strict=True) if (letter[0], letter[4]) != after[2:]]
    # Letters that differed in their answers alone, of copies of one device, are one from now on: the oldest.
    kept = list({after[2]: after for after in reversed(changed)}.values())
    # Under the new id there may be a letter already: the same operation, sent again by a device that had let go of its answer before.
    known = [after[2] for after in kept if after[1] != after[2]]
    gone = [*known, *({after[1] for after in changed} - {after[1] for after in kept})]
    cursor.execute("DELETE FROM dead_letters WHERE school_id = %s AND id = ANY(%s::uuid[])", (school_id, gone))
    if kept:
        execute_values(
            cursor,
            "UPDATE dead_letters d SET id = n.fresh, payload = n.payload FROM (VALUES %s) AS n (school_id, id, fresh, payload)"
            " WHERE d.school_id = n.school_id AND d.id = n.id",
            kept,
            template="(%s::uuid, %s::uuid, %s::uuid, %s::json)",
            page_size=len(kept),
        )
    return len(changed), found[-1][5] + 1 if len(found) >= STEP_ROWS_MAX else None
