"""The pages tell the truth: what they name exists, what exists and must be named is named, and the examples run."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

import cloud_api.cli
import daemon.cli
import daemon.service
import migrations.cli
from cloud_api import openapi as cloud_openapi
from cloud_api.config import CloudConfig
from cloud_api.imports import course_files, roster_file
from cloud_api.imports.course_files import CourseFiles
from cloud_api.imports.csv_table import Line, Problems
from daemon.api import openapi as device_openapi
from daemon.api import problems, server
from daemon.api.routes import NOUNS
from daemon.api.routes.document import with_document
from daemon.api.server import LocalServer
from daemon.config import DeviceSettings
from daemon.identity.device import TOKEN_FILE
from daemon.identity.instance import IDENTITY_COPY
from daemon.identity.keys import KEYS_FILE
from daemon.process import stopping
from daemon.sync.round import SyncStatus
from devstack.seeding import DEMO_PIN
from domain import findings
from domain.errors import CarrelError
from domain.operations import Rejection
from domain.settings import settings_of
from migrations.files import shipped_files
from tests.support.device import ADA, APP_TOKEN, open_device

ROOT = Path(__file__).parents[1]
PACKAGES = ("domain", "loglines", "webpages", "daemon", "cloud_api", "migrations")
TOP_FOLDERS = (*PACKAGES, "devstack", "benchmarks", "tests", "seeds", "docs", "systemd")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for folder, pattern in ((ROOT, "*.md"), (ROOT / "docs", "**/*.md"), (ROOT / "seeds", "*.md"), (ROOT / "systemd", "*.md"))
    for path in sorted(folder.glob(pattern))
}
CLI = {"carrel": daemon.cli.main, "carrel-cloud": cloud_api.cli.main, "carrel-migrate": migrations.cli.main}
SCRIPT_MAX_S = 60

each_page = pytest.mark.parametrize("page", PAGES)


# --- reading pages


def fences(page: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    return [
        body for language, body in re.findall(r"^```([^\n]*)\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE) if language in languages
    ]


def prose(page: str) -> str:
    """The page without fenced blocks."""
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)


def spans(page: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: str) -> list[str]:
    """What a reader may type: spans, and the lines of shell blocks."""
    return [*spans(page), *(line.partition(" #")[0] for block in fences(page, "sh", "sh no-run") for line in block.splitlines())]


def sections(page: str, level: int = 2) -> dict[str, str]:
    """Heading -> text below it."""
    parts = re.split(rf"^{'#' * level} (.+)$", PAGES[page], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_cells(text: str) -> list[str]:
    """The first cell of every row of the tables in a text, headings included."""
    return re.findall(r"^\| (.+?) \|", text, re.MULTILINE)


def anchors(page: str) -> set[str]:
    """The anchors that headings have on a page, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


# --- links and names


@each_page
def test_every_link_leads_somewhere(page: str) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        name = Path(os.path.relpath(path, ROOT)).as_posix()
        if not path.exists() or (anchor and anchor not in anchors(name)):
            broken.append(target)
    assert broken == []


@each_page
def test_every_file_named_exists(page: str) -> None:
    paths = (span.partition(":")[0] for span in spans(page) if span.startswith(tuple(f"{folder}/" for folder in TOP_FOLDERS)))
    assert [path for path in paths if re.fullmatch(r"[\w./-]+", path) and "NNNN" not in path and not (ROOT / path).exists()] == []


@each_page
def test_every_make_target_named_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in commands(page) for target in re.findall(r"\bmake ([a-z-]+)", text)}
    assert named <= targets


def test_the_readme_names_every_make_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= {target for text in spans("README.md") for target in re.findall(r"\bmake ([a-z-]+)", text)}


@each_page
def test_every_command_named_exists(page: str) -> None:
    wrong = []
    for text in commands(page):
        for program, words in re.findall(r"(?<![\w./-])(?:\.venv/bin/)?(carrel(?:-cloud|-migrate)?)((?: [a-z][a-z-]*)*)(?![\w.])", text):
            command: click.Command | None = CLI[program]
            for word in words.split():
                if not isinstance(command, click.Group):
                    break  # a command's own arguments
                command = command.commands.get(word)
            if command is None:
                wrong.append(program + words)
    assert wrong == []


def test_the_readme_names_every_command() -> None:
    named = set(spans("README.md"))
    assert [path for program, command in CLI.items() for path in leaves(program, command) if path not in named] == []


def test_the_help_of_a_group_has_the_first_sentence_of_each_command_whole() -> None:
    def groups(command: click.Command) -> Iterator[click.Group]:
        if isinstance(command, click.Group):
            yield command
            for inner in command.commands.values():
                yield from groups(inner)

    every = [group for program in CLI.values() for group in groups(program)]
    assert len(every) > 15
    cut = [group.name for group in every if "..." in group.get_help(click.Context(group)).partition("Commands:")[2]]
    assert cut == []


def test_the_columns_of_files_to_import_are_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[str, list[tuple[str, str]]] = {}

    def noting(path: Path, required: Sequence[str], optional: Sequence[str], problems: Problems) -> list[Line]:
        read[path.name] = [*((name, "yes") for name in required), *((name, "") for name in optional)]
        return []

    monkeypatch.setattr(course_files, "read_lines", noting)
    monkeypatch.setattr(roster_file, "read_lines", noting)
    names = (course_files.TOPICS, course_files.CONCEPTS, course_files.QUESTIONS, course_files.PREREQUISITES)
    topics, concepts, questions, prerequisites = map(Path, names)
    course = CourseFiles(topics, concepts, questions, prerequisites)
    course_files.read_course(course, Problems())
    roster_file.read_roster(Path("roster.csv"), Problems())
    parts = sections("docs/import.md", 2) | sections("docs/import.md", 3)
    rows = {name: re.findall(r"^\| `(\w+)` \| (yes|) ?\|", parts[f"`{name}`"], re.MULTILINE) for name in read}
    assert {name: sorted(found) for name, found in rows.items()} == {name: sorted(columns) for name, columns in read.items()}


def leaves(path: str, command: click.Command) -> Iterator[str]:
    """The full names of a command's innermost commands."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name, inner in command.commands.items():
        yield from leaves(f"{path} {name}", inner)


@cache
def defaults() -> dict[str, Any]:
    """Setting -> default, of both sides."""
    found = [*settings_of(DeviceSettings, "device"), *settings_of(CloudConfig, "cloud")]
    return {s.path: list(s.default) if isinstance(s.default, tuple) else s.default for s in found}


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested TOML tables as dotted keys."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@each_page
def test_every_setting_named_exists(page: str) -> None:
    keys = {span for span in spans(page) if re.fullmatch(r"(device|cloud)(?!\.(?:py|lock)$)(\.[a-z_]+)+", span)}
    keys |= {key for block in fences(page, "toml") for key in flat(tomllib.loads(block))}
    assert keys - {TOKEN_FILE, KEYS_FILE, IDENTITY_COPY} <= defaults().keys()


@each_page
def test_every_variable_named_exists(page: str) -> None:
    found = [*settings_of(DeviceSettings, "device"), *settings_of(CloudConfig, "cloud")]
    code = "".join(path.read_text("utf-8") for folder in (*PACKAGES, "devstack", "tests") for path in (ROOT / folder).rglob("*.py"))
    known = {s.variable for s in found} | set(re.findall(r'"(CARREL_[A-Z_]+)"', code))
    assert set(re.findall(r"\bCARREL_[A-Z_]*[A-Z]", PAGES[page])) <= known


def test_config_toml_shows_every_setting_of_both_sides_with_its_default() -> None:
    assert flat(tomllib.loads((ROOT / "config.toml").read_text("utf-8"))) == defaults()


def test_every_decision_named_is_written_down() -> None:
    code = [path.read_text("utf-8") for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    named = {n for text in (*PAGES.values(), *code) for n in re.findall(r"\bdecisions?[ /](\d{4})\b", text)}
    written = [path.name[:4] for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")]
    assert sorted(named - set(written)) == []
    assert len(written) == len(set(written))


def test_every_decision_is_listed() -> None:
    files = {path.name for path in (ROOT / "docs" / "decisions").glob("[0-9]*.md")}
    assert files == set(re.findall(r"\]\((\d{4}[^)]*)\)", PAGES["docs/decisions/README.md"]))


def test_the_changelog_names_every_migration() -> None:
    shipped = {f"{kind}/{file.name}" for kind in ("device", "cloud") for file in shipped_files(kind)}
    assert shipped <= set(spans("CHANGELOG.md"))


def test_the_readme_repeats_the_attributions_of_the_seeds() -> None:
    demanded = re.findall(r"^> .+$", PAGES["seeds/README.md"], re.MULTILINE)
    assert len(demanded) == 2
    assert [line for line in demanded if line not in PAGES["README.md"]] == []


# --- ARCHITECTURE.md


def code_map() -> dict[str, set[str]]:
    """Package -> the modules and folders that the code map names."""
    parts = sections("ARCHITECTURE.md", 3)
    found: dict[str, set[str]] = {}
    for heading, text in parts.items():
        if package := re.match(r"`(\w+)/`", heading):
            table = text.partition("\n## ")[0]
            found[package[1]] = {name for cell in first_cells(table) for name in re.findall(r"`([^`]+)`", cell)}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_code_map_names_every_module_and_none_that_is_not_there(package: str) -> None:
    there = {path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"}
    there |= {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    assert code_map()[package] == there


@pytest.mark.parametrize("package", PACKAGES)
def test_a_row_of_the_code_map_that_names_modules_of_a_folder_names_them_all(package: str) -> None:
    table = sections("ARCHITECTURE.md", 3)[next(h for h in sections("ARCHITECTURE.md", 3) if h.startswith(f"`{package}/`"))]
    for row in re.findall(r"^\| (`\w+/`) \| (.+) \|$", table, re.MULTILINE):
        folder, duty = row
        there = {path.name for path in (ROOT / package / folder.strip("`")).glob("*.py")} - {"__init__.py"}
        named = there & set(re.findall(r"`(\w+\.py)`", duty))
        assert not named or named == there, folder


def test_every_function_named_in_the_architecture_exists() -> None:
    named = [span.split(":") for page in ("ARCHITECTURE.md", "CONTRIBUTING.md") for span in spans(page) if re.search(r"\.py:\w", span)]
    assert len(named) > 20
    assert [f"{path}:{name}" for path, name in named if name not in definitions(path)] == []


def definitions(path: str) -> set[str]:
    """The functions and classes of a module, and `Class.method`."""
    found = set()
    for node in ast.parse((ROOT / path).read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@cache
def names_of_tests() -> set[str]:
    return {node.name for _, tree in sources("tests") for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@each_page
def test_every_test_named_exists(page: str) -> None:
    assert {span for span in spans(page) if re.fullmatch(r"test_\w+", span)} <= names_of_tests()


# --- docs/errors.md

# Modules whose problems reach people as sentences, without their code.
SAID_IN_WORDS = (
    "domain/settings.py", "domain/content_pack.py", "daemon/cli.py", "daemon/config.py", "daemon/importer.py", "daemon/control.py",
    "cloud_api/imports/csv_table.py", "cloud_api/database.py", "cloud_api/schools.py", "cloud_api/people.py", "migrations/",
)  # fmt: skip


def documented(section: str) -> set[str]:
    """The codes in the tables of one section."""
    text = sections("docs/errors.md")[section]
    return {code for cell in first_cells(text) for code in re.findall(r"^`(\w+)`$", cell)}


def literals(file: str, node: ast.expr | None) -> Iterator[str]:
    """The texts that an argument may be: literals, constants of the module, either branch of a choice."""
    if isinstance(node, ast.IfExp):
        yield from literals(file, node.body)
        yield from literals(file, node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name | ast.Attribute):
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        value: Any = module
        for name in ast.unparse(node).split("."):
            value = getattr(value, name, None)
        if isinstance(value, str):
            yield value


def calls(*functions: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of these functions in the four packages, with its file."""
    for file, tree in sources(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
                yield file, node


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    named = next((k.value for k in call.keywords if k.arg == name), None)
    return named or (call.args[position] if len(call.args) > position else None)


def error_classes(kind: type[CarrelError] = CarrelError) -> Iterator[type[CarrelError]]:
    """The error tree, without what tests have made."""
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__.startswith(PACKAGES):
            yield from error_classes(inner)


def refusal_codes() -> set[str]:
    """Every `code` that one of the two APIs, or a command, can refuse with."""
    codes = {kind.code for kind in error_classes()} | set(server._CODES.values())
    for position, function in ((0, "SyncRefused"), (0, "BundleRefused"), (1, "Forbidden"), (1, "_response")):
        for file, call in calls(function):
            codes.update(literals(file, argument(call, position, "code")))
    return codes


def test_every_refusal_is_documented_and_every_documented_one_exists() -> None:
    assert documented("Refusals") == refusal_codes()


def test_the_statuses_of_refusals_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", sections("docs/errors.md")["Refusals"], re.MULTILINE))
    assert {k.code: str(problems.status_of(k)) for k in error_classes()}.items() <= rows.items()


def test_every_code_of_an_entry_of_errors_is_documented_and_the_other_way_round() -> None:
    codes: set[str] = set()
    for file, call in calls("Problem"):
        if len(call.args) == 3 and not file.startswith(SAID_IN_WORDS):
            codes.update(literals(file, call.args[1]))
    assert documented("Entries of `errors`") == codes


def test_every_rejection_is_documented_and_the_other_way_round() -> None:
    assert documented("Rejections") == {rejection.value for rejection in Rejection}


def test_every_reason_is_documented_and_the_other_way_round() -> None:
    reasons = {text for file, call in calls("CloudUnreachable") for text in literals(file, argument(call, 0, "reason"))}
    for _, tree in sources("daemon"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("reason", "_REASONS"):
                reasons |= {n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert documented("Reasons") == reasons


def test_every_state_of_sync_is_documented_and_the_other_way_round() -> None:
    assert documented("States of sync") == set(re.findall(r"^ +`(\w+)`  ", SyncStatus.__doc__ or "", re.MULTILINE))


def test_every_exit_code_is_documented_and_the_other_way_round() -> None:
    constants = {
        value
        for module in (daemon.cli, daemon.service, stopping, findings)
        for name, value in vars(module).items()
        if name.startswith("EXIT_")
    }
    codes = {0} | constants | {kind.exit_code for kind in error_classes()}
    assert {int(cell) for cell in first_cells(sections("docs/errors.md")["Exit codes"]) if cell.isdigit()} == codes


def doctors_checks() -> set[str]:
    """The checks of both doctors: the first argument of every `Finding`."""
    found: set[str] = set()
    for file, tree in sources("daemon/doctor", "cloud_api/doctor"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                found.update(literals(file, argument(node, 0, "check")))
    return found


def test_the_runbook_says_what_to_do_about_everything_that_doctors_states_reasons_and_alerts_name() -> None:
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.y*ml"))
    alerts = set(re.findall(r"^\s*- alert: (\w+)$", rules, re.MULTILINE))
    named = doctors_checks() | documented("States of sync") | documented("Reasons") | alerts
    assert {"disk", "synced", "offline"} <= named
    assert sorted(named - set(spans("docs/runbook.md"))) == []


# --- routes and examples


@cache
def routes() -> set[tuple[str, str]]:
    """(method, path) of both APIs, with {id} for what is variable."""
    endpoints = with_document([endpoint for noun in NOUNS.values() for endpoint in noun])
    documents = (device_openapi.document(endpoints), json.loads(cloud_openapi.document()))
    return {(method.upper(), path) for d in documents for path, operations in d["paths"].items() for method in operations}


def curl_calls(script: str) -> Iterator[tuple[str, str]]:
    """(method, path) of every curl in a shell script."""
    for command in re.findall(r"curl (.*?)(?=\n[^ ]|\n\n|\Z)", script.replace("\\\n", " "), re.DOTALL):
        path = re.search(r"\$CARREL(/[\w/.$]+)", command)
        method = re.search(r"-X ([A-Z]+)", command)
        if path:
            yield method[1] if method else "POST" if " -d " in command else "GET", re.sub(r"\$\w+", "{id}", path[1])


def test_the_examples_for_apps_call_routes_that_exist() -> None:
    page = "docs/localhost-api.md"
    called = set(curl_calls("\n".join(fences(page, "sh"))))
    called |= {
        (method, f"/v1{path}") for block in fences(page, "js") for method, path in re.findall(r'carrel\("([A-Z]+)", "([^"]+)"', block)
    }
    assert len(called) > 15
    assert called <= routes()


@each_page
def test_every_route_named_exists(page: str) -> None:
    text = prose(page).partition("Not yet\n")[0]
    named = re.findall(r"`(GET|POST|PATCH|DELETE) (/v1/[\w/{}.]+)", text)
    assert set(named) <= routes()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A daemon's API over real HTTP, whose student is `ada`, with the PIN of the demonstration."""
    with open_device(tmp_path) as device:
        device.controlling().post(f"/students/{ADA}/pin", json={"pin": DEMO_PIN})
        listener = LocalServer(device.app, "127.0.0.1", 0, threads=4)
        listener.start()
        try:
            yield f"http://127.0.0.1:{listener.port}"
        finally:
            listener.stop()


def run_example(program: list[str], script: str, address: str) -> str:
    """What the examples of the page print when they run against this daemon."""
    script = script.replace("http://127.0.0.1:8750", address).replace('"mila"', '"ada"')
    script = script.replace("$(cat .state/device/app.token)", APP_TOKEN)
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {"APP": APP_TOKEN}
    done = subprocess.run(program, input=script, env=environ, capture_output=True, text=True, timeout=SCRIPT_MAX_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "python3"))), reason="needs bash, curl and python3")
def test_the_curl_examples_work_from_the_first_to_the_last(address: str) -> None:
    # A refusal, too, ends the script.
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@" && echo; }\n'
    printed = run_example(["bash"], strict + "\n".join(fences("docs/localhost-api.md", "sh")), address)
    assert '"created":true' in printed
    assert '"status":"done"' in printed


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_javascript_example_works(address: str) -> None:
    printed = run_example(["node", "--input-type=module"], "\n".join(fences("docs/localhost-api.md", "js")), address)
    assert printed.count("created: true") == 1
    assert printed.count("created: false") == 1
