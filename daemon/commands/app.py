"""`carrel app`: which learning apps may use this device."""

from __future__ import annotations

import sys
from typing import Any

import click

from daemon.commands.site import Settings, as_json, demand_daemon, tell
from domain.errors import NotFound
from migrations.commands.groups import Group


@click.group(cls=Group)
def app() -> None:
    """The learning apps that may use this device. Works with the running daemon."""


@app.command()
@click.argument("name")
@click.option(
    "--origin", "origins", multiple=True, help="Where the app's web pages come from, like http://localhost:3000. May be given again."
)
@as_json
@click.pass_obj
def add(settings: Settings, name: str, origins: tuple[str, ...], as_json: bool) -> None:
    """Register the app NAME and print its token, this once."""
    answer = demand_daemon(settings).post("/v1/apps", {"name": name, "origins": list(origins)})
    if not as_json:
        click.echo("The token is shown only now; whoever has it is this app.", err=True)
    tell(answer, as_json, lambda a: str(a["token"]))


@app.command("list")
@as_json
@click.pass_obj
def list_(settings: Settings, as_json: bool) -> None:
    """Say which apps are registered."""
    answer = demand_daemon(settings).get("/v1/apps")
    tell(answer, as_json, lambda a: "\n".join(map(_line, a["items"])) or "No app is registered.")


@app.command()
@click.argument("name")
@as_json
@click.pass_obj
def remove(settings: Settings, name: str, as_json: bool) -> None:
    """Take the app NAME away: its token is worth nothing from then on, and its sessions end."""
    control = demand_daemon(settings)
    control.delete(f"/v1/apps/{_named(control.get('/v1/apps')['items'], name)['id']}")
    tell({"removed": name}, as_json, lambda a: f"Removed: {a['removed']}")


@app.command()
@click.argument("name", required=False)
@as_json
@click.pass_obj
def launch(settings: Settings, name: str | None, as_json: bool) -> None:
    """Print an address that opens the app NAME, good once and for a minute; without a NAME, the pages of this account.

    The page takes the code behind the # to POST /v1/launches/redeem.
    """
    control = demand_daemon(settings)
    body = {"app_id": _named(control.get("/v1/apps")["items"], name)["id"]} if name else {}
    answer = control.post("/v1/launches", body)
    tell(answer, as_json, lambda a: f"{a['origins'][0]}/#carrel={a['code']}")


@click.group(cls=Group)
def pin() -> None:
    """The PINs with which students sign in on this device."""


@pin.command("set")
@click.argument("student")
@as_json
@click.pass_obj
def set_pin(settings: Settings, student: str, as_json: bool) -> None:
    """Set the PIN of the STUDENT of this user name; asks for it, or reads it from standard input."""
    control = demand_daemon(settings)
    found = next((s for s in control.get("/v1/students")["items"] if s["username"] == student), None)
    if found is None:
        raise NotFound("There is no student of this user name on this device.")
    asked = click.prompt("PIN", hide_input=True, confirmation_prompt=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    control.post(f"/v1/students/{found['id']}/pin", {"pin": str(asked)})
    tell({"student": student}, as_json, lambda a: f"The PIN of {a['student']} is set.")


def _named(apps: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = next((a for a in apps if a["name"] == name), None)
    if found is None:
        raise NotFound("There is no app of this name: `carrel app list` names them.")
    return found


def _line(app: dict[str, Any]) -> str:
    return f"{app['name']}  {', '.join(app['origins']) or 'no web pages'}"
