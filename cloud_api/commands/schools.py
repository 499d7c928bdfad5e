"""`carrel-cloud school`, `user`, `enrol-code` and `device`."""

from __future__ import annotations

import datetime

import click

from cloud_api import audit, devices, enrolment, people, schools
from cloud_api.commands.site import Options, database_options, json_option, open_site, school_option, show
from cloud_api.database import Cursor
from cloud_api.enrolment import EXPIRES_H_DEFAULT, Grant
from domain.errors import NotFound
from domain.ids import parse_id
from domain.registry import ROLES


@click.group()
def school() -> None:
    """Schools, the tenants of this server."""


@school.command(name="create", epilog="Example: carrel-cloud school create 'Hill School'")
@database_options
@click.argument("name")
@json_option
def create_school(options: Options, name: str, as_json: bool) -> None:
    """Add a school and print its id."""
    with open_site(options) as site, site.database() as database:
        made = database.retrying(lambda cursor: schools.create_school(cursor, site.ids.new(), name, site.clock.now_ms()))
    show(made, as_json, [made.id])


@school.command(name="list", epilog="Example: carrel-cloud school list --json")
@database_options
@json_option
def list_schools(options: Options, as_json: bool) -> None:
    """Show every school."""
    with open_site(options) as site, site.database() as database, database.transaction(read_only=True) as cursor:
        found = schools.list_schools(cursor)
    show(found, as_json, [f"{s.id}  {s.name}" for s in found])


@click.group()
def user() -> None:
    """The people of a school."""


@user.command(
    name="create",
    epilog="""\b
Examples:
  carrel-cloud user create --school 'Hill School' --username ada --display-name 'Ada L.' --class 8b
  carrel-cloud user create --school 'Hill School' --username grace --display-name 'Grace H.' --role teacher""",
)
@database_options
@school_option
@click.option("--username", required=True)
@click.option("--display-name", required=True)
@click.option("--role", type=click.Choice(ROLES), default="student", show_default=True)
@click.option("--class", "classes", multiple=True, metavar="NAME", help="A class that there is; may be given several times.")
@json_option
def create_user(
    options: Options, school: str, username: str, display_name: str, role: str, classes: tuple[str, ...], as_json: bool
) -> None:
    """Add a person and print the id. For many at once there is `import roster`."""
    with open_site(options) as site, site.database() as database:

        def run(cursor: Cursor) -> people.User:
            school_id = schools.find_school(cursor, school).id
            made = people.create_user(cursor, site.ids, school_id, username, display_name, role, classes, site.clock.now_ms())
            audit.record(cursor, school_id, site.ids.new(), site.clock.now_ms(), audit.OPERATOR, "user.created", made.id)
            return made

        made = database.retrying(run)
    show(made, as_json, [made.id])


@user.command(name="list", epilog="Example: carrel-cloud user list --school 'Hill School' --json")
@database_options
@school_option
@json_option
def list_users(options: Options, school: str, as_json: bool) -> None:
    """Show everybody of a school, those who left included."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        found = people.list_users(cursor, schools.find_school(cursor, school).id)
    lines = [f"{u.id}  {u.role:8}{u.username}  {u.display_name}{'  (left)' if u.retired_at_ms else ''}" for u in found]
    show(found, as_json, lines)


@click.group(name="enrol-code")
def enrol_code() -> None:
    """Codes by which devices enrol."""


@enrol_code.command(
    name="create",
    epilog="""\b
Examples:
  carrel-cloud enrol-code create --school 'Hill School' --student ada
  carrel-cloud enrol-code create --school 'Hill School' --class 8b --uses 30 --expires-h 8""",
)
@database_options
@school_option
@click.option("--student", "students", multiple=True, metavar="USERNAME", help="The device may hold this student's data.")
@click.option("--class", "classes", multiple=True, metavar="NAME", help="The device may hold this class and its students' data.")
@click.option("--uses", type=click.IntRange(1, enrolment.USES_MAX), default=1, show_default=True, help="Devices that may use the code.")
@click.option("--expires-h", type=float, default=EXPIRES_H_DEFAULT, show_default=True, help="Hours until it expires.")
@json_option
def create_code(
    options: Options, school: str, students: tuple[str, ...], classes: tuple[str, ...], uses: int, expires_h: float, as_json: bool
) -> None:
    """Make a code and print it. It is shown this once; only its hash is kept."""
    with open_site(options) as site, site.database() as database:
        now_ms = site.clock.now_ms()

        def run(cursor: Cursor) -> str:
            school_id = schools.find_school(cursor, school).id
            grants = [_student_grant(cursor, school_id, username) for username in students]
            grants += [Grant("class", people.find_class(cursor, school_id, name)) for name in classes]
            return enrolment.create_code(cursor, site.ids, school_id, grants, uses, expires_h, now_ms)

        code = database.retrying(run)
    show({"code": code, "uses": uses, "expires_at_ms": now_ms + round(expires_h * 3_600_000)}, as_json, [code])


def _student_grant(cursor: Cursor, school_id: str, username: str) -> Grant:
    found = people.find_user(cursor, school_id, username)
    if found.role != "student":
        raise NotFound("There is no student of that user name in the school.")
    return Grant("student", found.id)


@click.group()
def device() -> None:
    """Enrolled devices."""


@device.command(name="list", epilog="Example: carrel-cloud device list --school 'Hill School' --json")
@database_options
@school_option
@json_option
def list_devices(options: Options, school: str, as_json: bool) -> None:
    """Show the devices of a school, revoked ones included."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        found = devices.list_devices(cursor, schools.find_school(cursor, school).id)
    show(found, as_json, [f"{d.id}  {d.name}  {_last_seen(d)}  {' '.join(d.grants)}" for d in found])


def _last_seen(found: devices.DeviceSummary) -> str:
    if found.revoked_at_ms:
        return f"revoked {_time(found.revoked_at_ms)}"
    return f"last seen {_time(found.last_seen_ms)}" if found.last_seen_ms else "not seen since it was enrolled"


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


@device.command(name="revoke", epilog="Example: carrel-cloud device revoke --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d")
@database_options
@school_option
@click.argument("device_id")
def revoke_device(options: Options, school: str, device_id: str) -> None:
    """End a device's access, at once and for good. What it has not sent yet stays on it."""
    try:
        plain_id = parse_id(device_id)
    except ValueError as error:
        raise NotFound("That is not a device's id; `carrel-cloud device list` shows them.") from error
    with open_site(options) as site, site.database() as database:

        def run(cursor: Cursor) -> None:
            devices.revoke(cursor, site.ids, schools.find_school(cursor, school).id, plain_id, site.clock.now_ms())

        database.retrying(run)
    click.echo("revoked")
