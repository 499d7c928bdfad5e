"""`carrel-cloud bundle`: sync with devices that have no network, by files that a stick carries."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cloud_api.bundles.exchange import Bundles, Carried, Imported
from cloud_api.commands.site import Options, database_options, json_option, open_site, plain_id, progress_bar, show
from domain.bundle import FILE_BYTES_MAX, SUFFIX
from domain.counted import counted
from domain.operations import Verdict
from migrations.commands.groups import Group
from migrations.whole_file import demand_free, read_bounded, write_whole

ACK_SUFFIX = ".answer" + SUFFIX
_force = click.option("--force", is_flag=True, help="Replace the file that is written, if there is one.")


@click.group(cls=Group)
def bundle() -> None:
    """Sync with devices that have no network."""


@bundle.command(
    name="import",
    epilog="""\b
Examples:
  carrel-cloud bundle import /media/stick/laptop7.carrel-bundle
  carrel-cloud bundle import laptop7.carrel-bundle --ack laptop7.answer.carrel-bundle --no-feed""",
)
@database_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--ack", type=click.Path(path_type=Path, dir_okay=False), help=f"Where to write the answer [beside FILE, {ACK_SUFFIX}].")
@click.option("--no-feed", is_flag=True, help="Answer only; leave out what is new at school.")
@_force
@json_option
def import_bundle(options: Options, file: Path, ack: Path | None, no_feed: bool, force: bool, as_json: bool) -> None:
    """Take in what a device has written with `carrel bundle export`, and write the answer to be carried back.

    It may be taken in twice, in any order, and beside what the device has sent over a network: nothing arrives twice.
    """
    ack = ack or file.with_name(file.name.removesuffix(SUFFIX) + ACK_SUFFIX)
    demand_free(ack, force=force)
    data = read_bounded(file, FILE_BYTES_MAX)
    with open_site(options) as site, site.database() as database, progress_bar("importing") as progress:
        imported = Bundles(database, site.clock, site.ids).take(data, with_feed=not no_feed, progress=progress)
    write_whole(ack, imported.answer.data)
    counts = {"operations": imported.operations, "taken": imported.taken, "verdicts": imported.verdicts, "parted": imported.parted}
    summary = {"device_id": imported.device_id, **counts, "ack": str(ack), **_summary(imported.answer)}
    show(summary, as_json, _lines(imported, ack))


@bundle.command(
    name="export",
    epilog="\b\nExample: carrel-cloud bundle export --device 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d laptop7.carrel-bundle",
)
@database_options
@click.option("--device", "device_id", required=True, metavar="ID", help="The device that it is for.")
@click.option("--all", "all_", is_flag=True, help="From the beginning, not from where the device's last bundle said that it was.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_force
@json_option
def export_bundle(options: Options, device_id: str, all_: bool, file: Path, force: bool, as_json: bool) -> None:
    """Write what is new at school for one device into FILE; there `carrel bundle import` takes it in."""
    demand_free(file, force=force)
    with open_site(options) as site, site.database() as database:
        made = Bundles(database, site.clock, site.ids).give(plain_id(device_id, "device"), anew=all_)
    write_whole(file, made.data)
    show({"file": str(file), **_summary(made)}, as_json, [f"{_feed(made)} Carry {file} to the device: carrel bundle import FILE."])


def _summary(made: Carried) -> dict[str, object]:
    return {name: value for name, value in asdict(made).items() if name != "data"} | {"bytes": len(made.data)}


def _lines(imported: Imported, ack: Path) -> list[str]:
    known = imported.verdicts.get(Verdict.DUPLICATE, 0)
    lines = [f"{counted(imported.operations, 'change')} of {imported.device_name}: {imported.taken:,} new, {known:,} here already."]
    if refused := imported.verdicts.get(Verdict.REJECTED, 0):
        lines.append(f"{refused:,} refused; `carrel-cloud dead-letters list` shows why.")
    if imported.parted:
        lines.append("The device's log is not the one that this server knows; the answer tells it to begin anew. Nothing is lost by that.")
    return [*lines, f"{_feed(imported.answer)} Carry {ack} back to the device: carrel bundle import FILE."]


def _feed(made: Carried) -> str:
    more = ", and there is more, for the next bundle" if made.more else ""
    return (
        f"From the school {counted(made.rows, 'row')} {'goes' if made.rows == 1 else 'go'} back{more}."
        if made.rows
        else "Nothing of the school's is new for the device."
    )
