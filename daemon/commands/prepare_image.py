"""`carrel prepare-image`: one installation, to be copied to every laptop of a school."""

from __future__ import annotations

from dataclasses import asdict

import click

from daemon import sentences
from daemon.commands.site import Settings, as_json, tell
from daemon.process.left_out import leave_out_postgres


@click.command("prepare-image")
@as_json
@click.pass_obj
def prepare_image(settings: Settings, as_json: bool) -> None:
    """Make this installation ready for imaging: the course stays, identity and everything about people goes.

    The daemon must not run. Refuses while anything is not at school yet. Each copy is enrolled by itself.
    """
    config = settings.load()
    leave_out_postgres()
    from daemon import image

    tell({"prepared": True, **asdict(image.prepare(config))}, as_json, sentences.image_sentence)
