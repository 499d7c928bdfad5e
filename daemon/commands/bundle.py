"""`carrel bundle`: sync by a stick, for a device without a way to its school."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from daemon.commands.site import Settings, as_json, find_daemon, tell
from daemon.process.left_out import leave_out_postgres
from migrations.commands.groups import Group

if TYPE_CHECKING:
    from daemon.bundles.exchange import DeviceBundles
    from daemon.control import Control

Answer = dict[str, Any]


@click.group(cls=Group)
def bundle() -> None:
    """Sync without a network: files that a stick carries to the school's server and back.

    Works with the running daemon, and on its file while none runs.
    """


@bundle.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
@as_json
@click.pass_obj
def export(settings: Settings, file: Path, force: bool, as_json: bool) -> None:
    """Write everything that is not known to be at school into FILE, signed and sealed. It stays queued as well.

    `carrel-cloud bundle import FILE` takes it in, and writes the answer.
    """
    from daemon.bundles.sentences import export_sentence
    from daemon.identity.keys import read_keys
    from domain import bundle as bundles
    from domain.clock import SystemClock
    from migrations.whole_file import demand_free, write_whole

    demand_free(file, force=force)
    with _source(settings) as source:
        parties = source.parties()
        keys = read_keys(settings.load().state_dir)
        written, body = source.export()
    header = bundles.Header(bundles.Kind.FROM_DEVICE, parties["school_id"], parties["device_id"], SystemClock().now_ms())
    data = bundles.write(header, body, keys, _server_keys(parties))
    write_whole(file, data)
    tell({"file": str(file), "bytes": len(data), **written}, as_json, export_sentence)


@bundle.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@as_json
@click.pass_obj
def import_(settings: Settings, file: Path, as_json: bool) -> None:
    """Take in what the school's server has written for this device: answers to a bundle, and what is new.

    It may be taken in twice, late, and beside a sync over the network.
    """
    from daemon.bundles.sentences import import_sentence
    from daemon.identity.keys import read_keys
    from domain import bundle as bundles
    from domain.errors import BundleRefused
    from migrations.whole_file import read_bounded

    data = read_bounded(file, bundles.FILE_BYTES_MAX)
    header = bundles.read_header(data, bundles.Kind.FROM_SCHOOL)
    with _source(settings) as source:
        parties = source.parties()
        keys = read_keys(settings.load().state_dir)
        if (header.school_id, header.device_id) != (parties["school_id"], parties["device_id"]):
            whose = "another device" if header.school_id == parties["school_id"] else "a device of another school"
            raise BundleRefused("bundle_foreign", f"This bundle is for {whose}.")
        taken = source.take(bundles.read_body(data, header, _server_keys(parties), keys))
    tell(taken, as_json, import_sentence)


def _server_keys(parties: Answer) -> Any:
    from daemon.identity.keys import ServerKeys

    return ServerKeys(parties["server_verify_key"], parties["server_seal_key"]).public()


class _Source(Protocol):
    """The device whose bundles are written and taken in. Answers are dicts shaped as in the API."""

    def parties(self) -> Answer:
        """Who this device is, and the keys of its server."""
        ...

    def export(self) -> tuple[Answer, bytes]:
        """What is to be sent: counts, and the body."""
        ...

    def take(self, body: bytes) -> Answer:
        """Takes a body of the school's in."""
        ...


class _Running:
    """A device whose daemon runs."""

    def __init__(self, control: Control, state_dir: Path) -> None:
        self._control, self._state_dir = control, state_dir

    def parties(self) -> Answer:
        return self._control.get("/v1/sync/bundle")

    def export(self) -> tuple[Answer, bytes]:
        from daemon.bundles.spool import OUTGOING, pick_up

        answer = self._control.post("/v1/sync/bundle/export")
        return answer, pick_up(self._state_dir, OUTGOING)

    def take(self, body: bytes) -> Answer:
        from daemon.bundles.spool import INCOMING, lay_down

        lay_down(self._state_dir, INCOMING, body)
        return self._control.post("/v1/sync/bundle/import")


class _File:
    """A device whose file no daemon has open."""

    def __init__(self, bundles: DeviceBundles) -> None:
        self._bundles = bundles

    def parties(self) -> Answer:
        from dataclasses import asdict

        return asdict(self._bundles.parties())

    def export(self) -> tuple[Answer, bytes]:
        found = self._bundles.collect()
        return {"operations": found.operations, "answers": found.answers, "left": found.left}, found.body

    def take(self, body: bytes) -> Answer:
        from dataclasses import asdict

        return asdict(self._bundles.take(body))


@contextmanager
def _source(settings: Settings) -> Iterator[_Source]:
    config = settings.load()
    control = find_daemon(settings)
    if control is not None:
        yield _Running(control, config.state_dir)
        return
    leave_out_postgres()
    from daemon.bundles.exchange import DeviceBundles, NoRounds
    from daemon.identity.device import Identity
    from daemon.offline import offline_database
    from domain.clock import SystemClock
    from domain.ids import IdSource

    clock = SystemClock()
    with offline_database(config) as database:
        identity = Identity(database, config.state_dir, clock, IdSource(clock.now_ms))
        identity.finish_adoption()
        yield _File(DeviceBundles(database, identity, clock, NoRounds()))
