"""What `carrel` says to people: answers of the localhost API as plain sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.counted import counted, in_words

Answer = Mapping[str, Any]

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def status_lines(answer: Answer, now_ms: int) -> str:
    """`carrel status`: the daemon, its school, where sync stands, and what waits for a person. Times of the answer are UTC ms."""
    lines = [f"Carrel runs at {answer['address']} (process {answer['pid']})."]
    if answer.get("school_name"):
        lines.append(f"This is a device of {answer['school_name']}.")
    lines.append(state_sentence(answer))
    if answer.get("last_contact_ms"):
        lines.append(f"The school's server was last reached {ago(now_ms - answer['last_contact_ms'])}.")
    if answer["state"] != "rejected" and answer.get("rejected"):
        lines.append(_rejected_sentence(answer["rejected"]))
    if answer.get("last_verify_ms"):
        lines.append(f"Both sides were last compared {ago(now_ms - answer['last_verify_ms'])}: {_VERIFIED[answer['last_verify_result']]}")
    lines += [f"Note: {notice}" for notice in answer["notices"]]
    return "\n".join(lines)


def state_sentence(answer: Answer) -> str:
    """Where sync stands (daemon/sync/round.py, SyncStatus)."""
    match answer["state"]:
        case "not_enrolled":
            return "Not enrolled yet: no answers can be given before. Enrol with `carrel enrol URL CODE`."
        case "waiting":
            again = f" Next attempt in {span(answer['next_attempt_in_s'])}." if answer.get("next_attempt_in_s") is not None else ""
            return f"Waiting: {answer.get('message') or 'the last sync failed.'} {_queued(answer['pending'])}{again}"
        case "pending":
            return f"Not everything is at school yet. {_queued(answer['pending'])}"
        case "unknown":
            return "Nothing is waiting here; the school's server was not reached since the daemon started."
        case "rejected":
            return _rejected_sentence(answer["rejected"])
        case "differs":
            return (
                "Everything was sent, but this device and the school hold different answers, and that could not be put right."
                " Ask whoever looks after this machine."
            )
        case "synced":
            return "Everything is at school, and everything from school is here."
    return f"State: {answer['state']}."


# What a comparison came to (domain/agreement.py, Result).
_VERIFIED = {
    "match": "they agree.",
    "repaired": "what differed was fetched again, and they agree.",
    "mismatch": "they differ.",
    "inconclusive": "something changed meanwhile, so nothing can be said.",
}


def verify_sentence(answer: Answer) -> str:
    """`carrel verify`: what the comparison with the school came to (POST /v1/sync/verify)."""
    if not answer["finished"]:
        return "The comparison goes on in the background: ask `carrel status`."
    counts = f"{counted(answer['places'], 'table and scope', 'tables and scopes')} compared"
    match answer["result"]:
        case "match":
            return f"This device and the school agree: {counts}."
        case "repaired":
            return f"This device and the school agree again: {counts}, {counted(answer['repaired'], 'row')} put right."
        case "mismatch":
            is_kept = "is here and not at school; it is kept" if answer["kept"] == 1 else "are here and not at school; they are kept"
            kept = f" {counted(answer['kept'], 'row')} {is_kept}." if answer["kept"] else ""
            return f"This device and the school differ: {counts}, {counted(answer['repaired'], 'row')} put right.{kept} The report has both versions."
    return f"Nothing can be said: {answer.get('message') or 'something changed meanwhile.'}"


def round_sentence(answer: Answer) -> str:
    """`carrel sync`: what a round came to (POST /v1/sync)."""
    moved = f"{answer['pushed']} sent, {answer['pulled']} received"
    if not answer["finished"]:
        return "The sync goes on in the background: ask `carrel status`."
    if answer["outcome"] == "done":
        return f"Synced: {moved}. {_rejected_sentence(answer['rejected'])}" if answer["rejected"] else f"Synced: {moved}."
    if answer["outcome"] == "not_enrolled":
        return "Not enrolled yet: enrol with `carrel enrol URL CODE`."
    return f"Sync did not get through ({moved}): {answer.get('message') or answer['outcome']} Everything stays queued here."


def image_sentence(answer: Answer) -> str:
    """`carrel prepare-image`: what is left."""
    return (
        f"Ready for imaging: of the course {counted(answer['questions'], 'question')} {'stays' if answer['questions'] == 1 else 'stay'},"
        f" {counted(answer['people_removed'], 'person', 'people')} and this device's identity are gone. Enrol each copy with `carrel enrol URL CODE`."
    )


def span(seconds: float) -> str:
    """A time span in the largest unit that says enough: 40 s, 3 min, 2 h, 5 days."""
    if seconds < _MINUTE_S:
        return f"{max(0, round(seconds))} s"
    if seconds < _HOUR_S:
        return f"{round(seconds / _MINUTE_S)} min"
    if seconds < 2 * _DAY_S:
        return f"{round(seconds / _HOUR_S)} h"
    return f"{round(seconds / _DAY_S)} days"


def ago(ms: int) -> str:
    """How long ago something was, `ms` milliseconds; a clock that went back makes it just now."""
    return "just now" if ms < 2_000 else f"{span(ms / 1000)} ago"


def _queued(pending: int) -> str:
    if pending == 0:
        return "Nothing is waiting here."
    return f"{in_words(pending, 'change').capitalize()} {'is' if pending == 1 else 'are'} waiting here."


def _rejected_sentence(rejected: int) -> str:
    return (
        f"The school refused {in_words(rejected, 'change')}; nothing is lost, but a person must look: `carrel queue list` says what helps."
    )
