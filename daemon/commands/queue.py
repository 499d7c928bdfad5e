"""`carrel queue`: what is not at school yet, what the school refused, and what a person can do about it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from daemon.commands.queue_source import QueueSource, queue_source
from daemon.commands.site import Settings, as_json, tell
from domain.errors import InvalidInput, OperatorError, Problem
from migrations.commands.groups import Group

LIMIT_DEFAULT = 20
LIMIT_MAX = 10_000
# The file holds answers of students.
FILE_MODE = 0o600


@click.group(cls=Group)
def queue() -> None:
    """What is not at school yet: looked at, sent again, kept in a file.

    Works with the running daemon, and on its file while none runs.
    """


@queue.command("list")
@click.option("--pending", "list_pending", is_flag=True, help="Name what waits, too, and not only its number.")
@click.option("--limit", type=click.IntRange(1, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True, help="Changes named of either kind.")
@as_json
@click.pass_obj
def list_(settings: Settings, list_pending: bool, limit: int, as_json: bool) -> None:
    """Say what the school refused and why, and what waits to be sent."""
    from daemon.queue.sentences import queue_lines

    with queue_source(settings) as source:
        counts = {name: count for name, count in source.counts().items() if name in ("pending", "rejected", "answers_pending")}
        rejected = source.operations("rejected", limit)
        pending = source.operations("pending", limit) if list_pending else []
    answer = {**counts, "items": [*rejected, *pending]}
    tell(answer, as_json, lambda _: queue_lines(counts, rejected, pending))


@queue.command()
@click.argument("change")
@as_json
@click.pass_obj
def show(settings: Settings, change: str, as_json: bool) -> None:
    """Show one CHANGE whole, by the number that `list` prints, or by its id."""
    from daemon.queue.sentences import operation_lines

    with queue_source(settings) as source:
        found = source.operation(change)
    tell(found, as_json, operation_lines)


@queue.command()
@click.argument("changes", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Everything that was refused.")
@as_json
@click.pass_obj
def retry(settings: Settings, changes: tuple[str, ...], all_: bool, as_json: bool) -> None:
    """Send refused CHANGES once more, by number or id, or --all of them.

    Each goes to the end of the queue, with its content and its time as they were.
    """
    from daemon.queue.sentences import retry_sentence

    if bool(changes) == all_:
        raise InvalidInput([Problem("CHANGE", "missing_field", "Name the changes to send again, or say --all.")])
    with queue_source(settings) as source:
        answer = _retry_all(source) if all_ else source.retry(changes)
    tell(answer, as_json, retry_sentence)


def _retry_all(source: QueueSource) -> dict[str, object]:
    """All that are refused now, so many at a time. What is refused again meanwhile waits for the next command."""
    at_first, op_nos = source.counts()["rejected"], list[int]()
    while True:
        answer = source.retry(None)
        op_nos += answer["op_nos"]
        if not answer["retried"] or len(op_nos) >= at_first:
            return {"retried": len(op_nos), "op_nos": op_nos, "left": answer["left"]}


@queue.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@as_json
@click.pass_obj
def export(settings: Settings, file: Path, force: bool, as_json: bool) -> None:
    """Write everything that is not at school into FILE, as JSON, one change a line. It stays queued as well."""
    from daemon.queue.sentences import export_sentence

    with queue_source(settings) as source:
        written = _write(source, file, force)
    tell({"file": str(file), "operations": written}, as_json, lambda a: export_sentence(a["operations"], a["file"]))


def _write(source: QueueSource, file: Path, force: bool) -> int:
    """The number of operations written. The file is there whole or not at all, and only this account can read it."""
    if file.exists() and not force:
        raise OperatorError(f"{file} exists already; --force replaces it.")
    draft, written = file.with_name(file.name + ".part"), 0
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE), "w", encoding="utf-8") as out:
            for operation in source.unsent():
                out.write(json.dumps(operation, ensure_ascii=False) + "\n")
                written += 1
        draft.replace(file)
    except OSError as error:
        raise OperatorError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    return written
