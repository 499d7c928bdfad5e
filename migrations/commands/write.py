"""create."""

from __future__ import annotations

from pathlib import Path

import click

from domain.errors import OperatorError
from migrations.commands.databases import Databases, as_json_option, models_option, scratch_option
from migrations.commands.report import Run, on_each
from migrations.files import Kind


@click.command()
@click.argument("text")
@click.option("--auto", is_flag=True, help="Fill the file with the difference between the models and the files there are.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="The folder of files, for one kind of database."
)
@models_option
@scratch_option
@as_json_option
@click.pass_obj
def create(
    databases: Databases, text: str, auto: bool, folder: Path | None, models: str | None, scratch_url: str | None, as_json: bool
) -> None:
    """Write a new migration file whose name and docstring are made of TEXT.

    With --auto the file is run up, down and up again in a scratch database and compared with the models before it is written.
    """

    def work(run: Run) -> None:
        place = folder or _folder_in_clone(run.kind)
        if auto:
            _auto(run, place, text, models, scratch_url or run.address_or_none)
        else:
            _empty(run, place, text)

    on_each(lambda: [(kind, databases.address(kind)) for kind in databases.kinds()], as_json, work)


def _folder_in_clone(kind: Kind) -> Path:
    """Where the files of a kind lie. Raises OperatorError in an installation: a file added there would be gone with its next upgrade, and a
    database that had it applied would then be refused.
    """
    packages = Path(__file__).parents[2]
    if not (packages / "pyproject.toml").is_file():
        raise OperatorError(
            "This Carrel is installed, its files are not to be added to: give --folder, or work in a clone of the repository."
        )
    return packages / "migrations" / kind


def _empty(run: Run, folder: Path, text: str) -> None:
    from migrations.creation import create_empty

    created = create_empty(folder, text)
    run.report["path"] = str(created.path)
    run.say(f"written: {created.path}")


def _auto(run: Run, folder: Path, text: str, models: str | None, server_url: str | None) -> None:
    from migrations.creation import create_auto
    from migrations.schema.models import MODELS, load_models
    from migrations.scratch import scratch_for

    with run.during("drafting and trying out"), scratch_for(run.kind, server_url) as scratch:
        created = create_auto(run.kind, folder, text, load_models(models or MODELS[run.kind]), scratch)
    run.report |= {"path": created.path and str(created.path), "statements": created.statements, "warnings": created.warnings}
    if created.path is None:
        run.say("nothing to do, the files make what the models say")
        return
    for warning in created.warnings:
        run.say(f"mind: {warning}")
    run.say(f"written: {created.path}")
