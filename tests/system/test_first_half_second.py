"""Ctrl-C while a command is still importing what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from domain.errors import EXIT_INTERRUPTED

ROOT = Path(__file__).parents[2]
# In the place of the library that every command line imports: it presses Ctrl-C.
PRESSES_CTRL_C = "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\nprint('went on')\nsys.exit(7)\n"
# What Python does at the end of every import: an exception from there would be printed, and forgotten.
IN_A_CALLBACK = """\
import os, signal, sys, weakref
class Thing: pass
def released(_reference):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10): pass
thing = Thing()
reference = weakref.ref(thing, released)
del thing
print('went on')
sys.exit(7)
"""


def begin(package: str, folder: Path, click: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command by a shell, which first does what is `before`."""
    (folder / "click.py").write_text(click)
    command = ["/bin/sh", "-c", f'{before}exec "$0" -m {package} --help', sys.executable]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("click", [PRESSES_CTRL_C, IN_A_CALLBACK], ids=["importing", "released"])
@pytest.mark.parametrize("package", ["daemon", "cloud_api", "migrations"])
def test_it_ends_the_command_without_a_word(package: str, click: str, tmp_path: Path) -> None:
    done = begin(package, tmp_path, click)
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_INTERRUPTED, "", "")


def test_a_command_that_does_not_hear_it_goes_on(tmp_path: Path) -> None:
    assert begin("daemon", tmp_path, PRESSES_CTRL_C, before="trap '' INT; ").returncode == 7


def test_afterwards_ctrl_c_is_what_it_always_is() -> None:
    code = (
        "import signal; from migrations.beginning import begun\n"
        "begun(lambda: lambda: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "True\n"


def test_the_commands_that_are_installed_begin_there() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    commands = setup["options.entry_points"]["console_scripts"].split("\n")[1:]
    assert commands and all(command.endswith(".__main__:main") for command in commands), commands
