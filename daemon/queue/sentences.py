"""What `carrel queue` and `carrel conflicts` say to people: what waits, what was refused and what to do, which values lost."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from daemon.queue.requeue import RETRIED
from domain.counted import in_words
from domain.merge import Rule
from domain.operations import OperationState, Rejection

Answer = Mapping[str, Any]

# What a change is about, by table and by whether its row was made or changed.
_WHAT = {
    ("question_attempts", "insert"): "an answer",
    ("study_plans", "insert"): "a study plan",
    ("study_plan_items", "insert"): "a line of a study plan",
    ("study_plan_items", "update"): "a change of a line of a study plan",
    ("student_profiles", "update"): "a change of the profile",
}
_FIELDS = {
    "grade": "the grade",
    "exam_on": "the day of the exam",
    "available_minutes": "the minutes of each weekday",
    "days_off": "the days off",
    "status": "the state of a line of a study plan",
    "moved_to": "the day to which a line of a study plan was moved",
}
_ASK_THE_SCHOOL = "The school has it whole; ask its administrator to look at the dead letters. Nothing is lost."
# What helps, by the reason of the refusal (docs/errors.md, "Rejections").
_HELP = {
    Rejection.INVALID: f"A value is not one that can be. {_ASK_THE_SCHOOL}",
    Rejection.UNKNOWN_TABLE: "This device is newer than the school's server: send it again when the server has been upgraded.",
    Rejection.NOT_WRITABLE: "This device is newer than the school's server: send it again when the server has been upgraded.",
    Rejection.NOT_GRANTED: "Ask the school to give this device to the student or the class, then send it again with `carrel queue retry`.",
    Rejection.IMMUTABLE: "An answer with this id is at school already, with other content, and stays; record a correction as a new answer.",
    Rejection.DELETED: "The school has deleted what this belongs to; there is nothing to do.",
    Rejection.UNKNOWN_REFERENCE: "The school does not have what this refers to; ask it to import the course again, then send it again.",
    Rejection.DEPENDS_ON: "It builds on another change that was refused: see that one first, then send both again.",
    Rejection.SET_ASIDE: "It could not be sent at all, and is only here: keep it with `carrel queue export`, and report it.",
    Rejection.ERASED: "The school has erased everything about this student; there is nothing to do.",
    Rejection.REFUSED: _ASK_THE_SCHOOL,
}
_WHO = {"school": "the school", "this_device": "this device", "another_device": "another device", None: "nobody"}


def queue_lines(counts: Answer, rejected: Sequence[Answer], pending: Sequence[Answer]) -> str:
    """`carrel queue list`: what was refused, each with the reason and what helps; what waits."""
    lines = []
    if counts["rejected"]:
        lines.append(f"The school refused {in_words(counts['rejected'], 'change')}:")
        lines += [_refused(operation) for operation in rejected]
        lines += _more(counts["rejected"], rejected)
    if counts["pending"]:
        answers = f", {in_words(counts['answers_pending'], 'answer')} among them" if counts["answers_pending"] else ""
        lines.append(
            f"{_sentence(counts['pending'], 'change')} will be sent to school {'by itself' if counts['pending'] == 1 else 'by themselves'}{answers}{':' if pending else '.'}"
        )
        lines += [f"  {operation['op_no']}  {_what(operation)}" for operation in pending]
        lines += _more(counts["pending"], pending) if pending else []
    return "\n".join(lines) or "Everything that was written here is at school."


def operation_lines(operation: Answer) -> str:
    """`carrel queue show`: one change with what it holds."""
    lines = [f"{operation['op_no']}  {_what(operation)}", f"   id: {operation['id']}", f"   {_state(operation)}"]
    if operation["state"] == OperationState.REJECTED:
        lines.append(f"   What to do: {help_for(operation['code'])}")
    lines.append("   It holds:")
    lines += [f"     {name}: {_text(value)}" for name, value in operation["payload"].items()]
    if operation["base"]:
        lines.append("   It replaced:")
        lines += [f"     {name}: {_text(value)}" for name, (value, _) in operation["base"].items()]
    return "\n".join(lines)


def retry_sentence(answer: Answer) -> str:
    """`carrel queue retry`."""
    if not answer["retried"]:
        return "The school has refused nothing."
    left = f" {_sentence(answer['left'], 'refused change')} left as before." if answer["left"] else ""
    return f"{_sentence(answer['retried'], 'change')} will be sent again with the next sync.{left}"


def export_sentence(written: int, file: str) -> str:
    """`carrel queue export`."""
    return f"{_sentence(written, 'change')} that {'is' if written == 1 else 'are'} not at school written to {file}. They stay queued here."


def conflict_lines(conflicts: Sequence[Answer]) -> str:
    """`carrel conflicts`: which values lost, against what, and why."""
    return "\n".join(map(_conflict, conflicts)) or "No value has lost against another."


def help_for(code: str | None) -> str:
    """What a person can do about a refusal."""
    return _HELP.get(Rejection(code), _ASK_THE_SCHOOL) if code in set(Rejection) else _ASK_THE_SCHOOL


def _conflict(conflict: Answer) -> str:
    field = _FIELDS.get(conflict["field"], conflict["field"])
    whose = f" of {conflict['student_name']}" if conflict["student_name"] else ""
    lost = f"{_text(conflict['lost'])} from {_WHO.get(conflict['lost_by'], 'nobody')}"
    head = f"{_time(conflict['noted_at_ms'])}  {field}{whose}: {lost} was not taken."
    match conflict["rule"]:
        case Rule.DELETED:
            why = "What it belongs to has been deleted."
        case Rule.TEACHER_FIRST:
            why = f"Here the school's word comes first, and it is {_text(conflict['kept'])}."
        case _:
            why = f"{_text(conflict['kept'])} from {_WHO.get(conflict['kept_by'], 'nobody')} is later."
    restored = f" The school has taken it after all, {_time(conflict['restored_at_ms'])}." if conflict["restored_at_ms"] else ""
    return f"{head} {why}{restored}"


def _refused(operation: Answer) -> str:
    return f"  {operation['op_no']}  {_what(operation)}\n      Why: {_why(operation)}\n      What to do: {help_for(operation['code'])}"


def _what(operation: Answer) -> str:
    what = _WHAT.get((operation["table"], operation["kind"]), f"a change of {operation['table']}")
    whose = f" of {operation['student_name']}" if operation["student_name"] else ""
    return f"{what}{whose}, {_time(operation['written_at_ms'])}"


def _why(operation: Answer) -> str:
    return f"{(operation['message'] or 'no reason was given').rstrip('.')} ({operation['code'] or 'unknown'})."


def _state(operation: Answer) -> str:
    match operation["state"]:
        case OperationState.PENDING:
            return "It waits to be sent."
        case OperationState.REJECTED:
            return f"The school refused it: {_why(operation)}"
    return str(operation["message"]) if operation["code"] == RETRIED else "It is at school."


def _more(count: int, shown: Sequence[Answer]) -> list[str]:
    return [f"  … and {count - len(shown)} more (--limit)"] if count > len(shown) else []


def _sentence(count: int, what: str) -> str:
    """A number and what it counts, at the beginning of a sentence."""
    return in_words(count, what).capitalize()


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _time(at_ms: int) -> str:
    """UTC ms as people read it, in the same words on every machine."""
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
