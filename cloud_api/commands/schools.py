"""`carrel-cloud school`, `user`, `enrol-code` and `device`."""

from __future__ import annotations

import datetime
import sys

import click

from cloud_api import audit, people, schools
from cloud_api.access import accounts
from cloud_api.commands.site import Options, database_options, id_argument, json_option, keep_withdrawals, open_site, school_option, show
from cloud_api.database import Cursor
from cloud_api.devices import enrolled, enrolment, grants
from cloud_api.devices.auth import Revocation
from cloud_api.devices.enrolment import EXPIRES_H_DEFAULT, Grant
from cloud_api.serving.tls import own_key_name
from domain.counted import counted
from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import parse_id
from domain.registry import ROLES
from domain.server_key import MARK, grouped
from migrations.commands.groups import Group

# What is read of a password that is piped in, in characters: more than one may have.
PASSWORD_INPUT_MAX = 1_000
# Codes that are listed.
OPEN_CODES_MAX = 1_000


@click.group(cls=Group)
def school() -> None:
    """Schools, the tenants of this server."""


@school.command(name="create", epilog="\b\nExample: carrel-cloud school create 'Hill School'")
@database_options
@click.argument("name")
@json_option
def create_school(options: Options, name: str, as_json: bool) -> None:
    """Add a school and print its id."""
    with open_site(options) as site, site.database() as database:
        made = database.retrying(lambda cursor: schools.create_school(cursor, site.ids.new(), name, site.clock.now_ms()))
    show(made, as_json, [made.id])


@school.command(name="list", epilog="\b\nExample: carrel-cloud school list --json")
@database_options
@json_option
def list_schools(options: Options, as_json: bool) -> None:
    """Show every school."""
    with open_site(options) as site, site.database() as database, database.transaction(read_only=True) as cursor:
        found = schools.list_schools(cursor)
    show(found, as_json, [f"{s.id}  {s.name}" for s in found])


@click.group(cls=Group)
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


@user.command(
    name="set-password",
    epilog="""\b
Examples:
  carrel-cloud user set-password --school 'Hill School' --username grace
  pass show carrel/grace | carrel-cloud user set-password --school 'Hill School' --username grace""",
)
@database_options
@school_option
@click.option("--username", required=True)
def set_user_password(options: Options, school: str, username: str) -> None:
    """Give somebody a password, asked for or read from standard input; whoever is signed in under the one before is signed out."""
    password = _new_password()
    with open_site(options) as site, site.database() as database:
        accounts.set_password(database, site.clock, site.ids, school, username, password)
        keep_withdrawals(site, database)
    click.echo("set")


def _new_password() -> str:
    """What is typed twice, unseen; or the first line of what is piped in. Never an argument, which every account of the machine can read."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline(PASSWORD_INPUT_MAX).rstrip("\r\n")


@user.command(name="list", epilog="\b\nExample: carrel-cloud user list --school 'Hill School' --json")
@database_options
@school_option
@json_option
def list_users(options: Options, school: str, as_json: bool) -> None:
    """Show everybody of a school, those who left included."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        found = people.list_users(cursor, schools.find_school(cursor, school).id)
    lines = [f"{u.id}  {u.role:8}{u.username}  {u.display_name}{'  (left)' if u.retired_at_ms else ''}" for u in found]
    show(found, as_json, lines)


@click.group(name="enrol-code", cls=Group)
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
        if (key := own_key_name(site.config.tls)) is not None:
            code = f"{code}{MARK}{grouped(key)}"  # by which devices know this server from any other
    show({"code": code, "uses": uses, "expires_at_ms": now_ms + round(expires_h * 3_600_000)}, as_json, [code])


@enrol_code.command(name="list", epilog="\b\nExample: carrel-cloud enrol-code list --school 'Hill School'")
@database_options
@school_option
@json_option
def list_codes(options: Options, school: str, as_json: bool) -> None:
    """Show the codes that can still be used: what each begins with, its id, what it is for, and who made it. The newest first."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        found = enrolment.open_codes(cursor, school_id, site.clock.now_ms(), OPEN_CODES_MAX)
    show(found, as_json, [_code_line(code) for code in found] or ["no code can be used"])


def _code_line(code: enrolment.OpenCode) -> str:
    holds = ", ".join([*code.classes, *([counted(code.students, "student")] if code.students else [])])
    uses = counted(code.uses_left, "use")
    return f"{code.id}  {code.hint}…  {holds}  {uses} left, until {_time(code.expires_at_ms)}  made by {code.created_by}"


@enrol_code.command(
    name="end",
    epilog="""\b
Examples:
  carrel-cloud enrol-code end --school 'Hill School' KQ4M-7TXD-2PFH
  carrel-cloud enrol-code end --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d""",
)
@database_options
@school_option
@click.argument("code")
def end_code(options: Options, school: str, code: str) -> None:
    """End a code early, given itself or its id: nobody enrols by it any more. Devices that were enrolled by it stay."""
    with open_site(options) as site, site.database() as database:

        def run(cursor: Cursor) -> None:
            enrolment.end_code(cursor, site.ids, schools.find_school(cursor, school).id, code, site.clock.now_ms())

        database.retrying(run)
        keep_withdrawals(site, database)
    click.echo("ended")


def _student_grant(cursor: Cursor, school_id: str, username: str) -> Grant:
    found = people.find_user(cursor, school_id, username)
    if found.role != "student":
        raise NotFound("There is no student of that user name in the school.")
    return Grant("student", found.id)


@click.group(cls=Group)
def device() -> None:
    """Enrolled devices."""


@device.command(name="list", epilog="\b\nExample: carrel-cloud device list --school 'Hill School' --json")
@database_options
@school_option
@json_option
def list_devices(options: Options, school: str, as_json: bool) -> None:
    """Show the devices of a school, those that were revoked or enrolled again included."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        found = enrolled.list_devices(cursor, school_id)
        held = {f"class:{id_}": f"class {name}" for id_, name in people.list_classes(cursor, school_id)}
        held |= {f"student:{user.id}": f"student {user.username}" for user in people.list_users(cursor, school_id)}
    show(found, as_json, [f"{d.id}  {d.name}  {_last_seen(d)}  {', '.join(held.get(grant, grant) for grant in d.grants)}" for d in found])


def _last_seen(found: enrolled.DeviceSummary) -> str:
    if found.revoked_at_ms:
        return f"revoked {_time(found.revoked_at_ms)}, {_standing(found)}"
    if found.replaced_by:
        return f"enrolled again, now {found.replaced_by}"
    return f"last seen {_time(found.last_seen_ms)}" if found.last_seen_ms else "not seen since it was enrolled"


def _standing(found: enrolled.DeviceSummary) -> str:
    """What a revoked device was told, and whether it has said that it has done so."""
    told = "told to lock" if found.revocation in (None, Revocation.LOCK) else "told to wipe"
    if found.obeyed_at_ms:
        return f"{told}, done {_time(found.obeyed_at_ms)}"
    lost = found.unsent_at_wipe
    return (
        f"{told}, refused: {counted(lost, 'change')} {'is' if lost == 1 else 'are'} nowhere else"
        if lost
        else f"{told}, not heard from since"
    )


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


@device.command(name="revoke", epilog="\b\nExample: carrel-cloud device revoke --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d")
@database_options
@school_option
@click.argument("device_id")
@click.option("--wipe", is_flag=True, help="Have it forget everything as well, unless something on it is nowhere else.")
@click.option("--discard-unsent", is_flag=True, help="With --wipe: even then. Those answers are lost.")
def revoke_device(options: Options, school: str, device_id: str, wipe: bool, discard_unsent: bool) -> None:
    """End a device's access, at once and for good. When it comes next, it lets nobody in any more; what it has not sent yet stays on it."""
    if discard_unsent and not wipe:
        raise InvalidInput([Problem("--discard-unsent", "invalid_value", "--discard-unsent goes with --wipe.")])
    order = (Revocation.WIPE_DISCARDING_UNSENT if discard_unsent else Revocation.WIPE) if wipe else Revocation.LOCK
    try:
        plain_id = parse_id(device_id)
    except ValueError as error:
        raise NotFound("That is not a device's id; `carrel-cloud device list` shows them.") from error
    with open_site(options) as site, site.database() as database:

        def run(cursor: Cursor) -> None:
            enrolled.revoke(cursor, site.ids, schools.find_school(cursor, school).id, plain_id, site.clock.now_ms(), order=order)

        database.retrying(run)
        keep_withdrawals(site, database)
    click.echo("revoked")


@device.command(
    name="end-grant",
    epilog="\b\nExample: carrel-cloud device end-grant --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d --student ada",
)
@database_options
@school_option
@id_argument("device_id")
@click.option("--student", metavar="USERNAME", help="The device is not to hold this student any more.")
@click.option("--class", "class_name", metavar="NAME", help="The device is not to hold this class any more.")
def end_grant(options: Options, school: str, device_id: str, student: str | None, class_name: str | None) -> None:
    """End one of the things that a device may hold. It forgets it with its next contact, after what it has not sent yet. To give it back, enrol it anew."""
    if (student is None) == (class_name is None):
        raise InvalidInput([Problem("--student", "invalid_value", "Say either --student or --class.")])
    kind, name = ("student", student) if student is not None else ("class", class_name or "")
    with open_site(options) as site, site.database() as database:

        def run(cursor: Cursor) -> list[str]:
            school_id = schools.find_school(cursor, school).id
            grant = grants.find_grant(cursor, school_id, device_id, kind, name)
            return grants.end_grant(cursor, site.ids, school_id, device_id, grant, site.clock.now_ms())

        still = database.retrying(run)
        keep_withdrawals(site, database)
    click.echo(f"ended; the device goes on holding {name} by the class {', '.join(still)}" if still else "ended")
