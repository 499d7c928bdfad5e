"""What the device page says, in words for students: no commands, no codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from daemon import sentences
from daemon.api.schemas.sync import Status
from daemon.queue.sentences import help_for
from domain.counted import in_words
from domain.learning.levels import Level
from domain.operations import OperationState

MINUTE_MS = 60_000

# Levels as students read them.
LEVELS: Mapping[str, str] = {
    Level.NOT_STARTED: "not begun",
    Level.NOT_ENOUGH_EVIDENCE: "too early to say",
    Level.ATTEMPTED: "begun",
    Level.FAMILIAR: "familiar",
    Level.PROFICIENT: "proficient",
    Level.MASTERED: "mastered",
}
_WHAT = {
    ("question_attempts", "insert"): ("an answer", "answers"),
    ("study_plans", "insert"): ("a study plan", "study plans"),
    ("study_plan_items", "insert"): ("a line of the study plan", "lines of the study plan"),
    ("study_plan_items", "update"): ("a change of the study plan", "changes of the study plan"),
    ("student_profiles", "update"): ("a change of the profile", "changes of the profile"),
}
_STATES = {
    OperationState.PENDING: ("waiting", "waiting"),
    OperationState.REJECTED: ("not taken by the school", "bad"),
}
_AT_SCHOOL = ("at school", "good")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the work on this device stands: the kind of the sign (webpages, `sentence`), the sentence, and what there is to add."""

    kind: str
    sentence: str
    detail: str = ""


def standing(status: Status) -> Standing:
    """The one sentence of the page (`state` as in daemon/sync/round.py, SyncStatus)."""
    match status.state:
        case "not_enrolled":
            return Standing(
                "bad",
                "This device does not belong to a school yet.",
                "Nothing can be recorded before. Ask whoever looks after this machine.",
            )
        case "waiting":
            return _waiting(status)
        case "pending":
            return Standing("working", "Your work is safe on this device, and on its way to school.")
        case "unknown":
            return Standing("working", "Nothing is waiting here.", "The school has not been reached since this machine was started.")
        case "rejected":
            return Standing("bad", _refused(status.rejected), "Nothing is lost. Sign in below to see what it is, and show it to a teacher.")
        case "differs":
            return Standing(
                "bad",
                "This device and the school do not agree.",
                "Everything was sent, and is kept here. Ask whoever looks after this machine.",
            )
        case "synced":
            return Standing("good", "All your work is safe at school.")
    return Standing("waiting", f"State: {status.state}.")


def _waiting(status: Status) -> Standing:
    why = status.message or "The last attempt to reach the school did not succeed."
    again = "" if status.next_attempt_in_s is None else f" The next attempt comes {_in(status.next_attempt_in_s)}."
    kept = "Your work is safe on this device. It goes to school by itself." if status.pending else "Nothing is waiting here."
    return Standing("waiting", kept, f"{why}{again}")


def _in(seconds: float) -> str:
    return "now" if seconds < 1 else f"in {sentences.span(seconds)}"


def _refused(rejected: int) -> str:
    return f"The school did not take {in_words(rejected, 'change')} from this device."


def waiting_answers(status: Status) -> str:
    """What the number of the page counts."""
    return "answer not at school yet" if status.answers_pending == 1 else "answers not at school yet"


def other_changes(status: Status) -> str:
    """What waits besides the answers: plans and profiles. Empty when nothing does."""
    others = status.pending - status.answers_pending
    return "" if others <= 0 else f"and {in_words(others, 'other change')}, to a plan for instance"


def when(at_ms: int | None, now_ms: int) -> str:
    """A moment (UTC ms) as people say it on a page that is looked at for a while: to the minute; `never` for None."""
    if at_ms is None:
        return "never"
    passed_ms = now_ms - at_ms
    return "just now" if passed_ms < MINUTE_MS else sentences.ago(passed_ms)


def day_name(day: date, today: date) -> str:
    """`today`, `yesterday`, `tomorrow`, else `Wed 4 Mar`. The names are the page's own: it speaks one language on every machine."""
    near = {today: "today", today - timedelta(days=1): "yesterday", today + timedelta(days=1): "tomorrow"}
    weekdays = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return near.get(day) or f"{weekdays[day.weekday()]} {day.day} {months[day.month - 1]}"


def change(table: str, kind: str, count: int) -> str:
    """What so many changes of one kind are about."""
    one, many = _WHAT.get((table, kind), ("a change", "changes"))
    return one if count == 1 else f"{count} {many}"


def state_of_change(state: str) -> tuple[str, str]:
    """Where a change is, and the kind of the badge that says it."""
    return _STATES.get(OperationState(state), _AT_SCHOOL)


def why_refused(message: str | None, code: str | None) -> str:
    """Why the school did not take a change, and what helps, for the teacher to whom it is shown."""
    why = f"{(message or 'No reason was given').rstrip('.')}."
    return f"{why} {help_for(code)}"
