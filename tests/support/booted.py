"""A machine that boots systemd, in a container, on which `carrel service install` can be run.

There is a wheel of Carrel on it, wheels of all that it needs, and an environment from which an administrator runs the command. It has this machine's /usr, read-only, and its own everything else; no network but its own loopback. Needs root and systemd-nspawn.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wheels import build_wheel, packages, put_together

ROOT = Path(__file__).parents[2]
# Where, inside, the wheels lie, and the environment in which the command is that installs them.
WHEELS, FIRST = Path("/opt/wheels"), Path("/opt/first")
BOOT_MAX_S = 60.0
COMMAND_MAX_S = 110.0
POLL_S = 0.1
# Where the interpreter of the tests is found inside; that of /usr stays where it is.
INNER_PYTHON = Path("/opt/python")
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "true")
COMMAND = f"""#!{FIRST}/bin/python
from daemon.cli import main
main()
"""


def why_not() -> str | None:
    """What is missing on this machine, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if missing := [name for name in ("systemd-nspawn", "nsenter", "unshare", "systemd-sysusers", "setpriv") if shutil.which(name) is None]:
        return f"needs {', '.join(missing)}"
    if not Path("/lib").is_symlink() or not Path("/usr/lib/systemd/systemd").exists():
        return "needs systemd, and everything of the system in /usr"
    if (
        not os.access("/sys/fs/cgroup", os.W_OK)
        or subprocess.run(_NAMESPACES, capture_output=True, timeout=COMMAND_MAX_S, check=False).returncode
    ):
        return "needs a machine that may make containers"
    return None


class Machine:
    """A booted container. `leader` is its first process, as this machine counts."""

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command inside as root; a failure shows all it said, unless `check` is off."""
        inside = ("nsenter", "-t", str(self._leader), "-a", "--", *command)
        done = subprocess.run(
            inside, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.journal()}")
        return done

    def run_as(self, account: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside as another account, whatever becomes of it."""
        return self.run(
            "setpriv",
            "--reuid",
            account,
            "--regid",
            self.run("id", "-g", account).stdout.strip(),
            "--clear-groups",
            "--reset-env",
            "--",
            *command,
            check=False,
        )

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-n", "40", check=False).stdout

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + COMMAND_MAX_S
        while not holds():
            if time.monotonic() > deadline_s:
                raise AssertionError(f"{what} did not come\n{self.journal()}")
            time.sleep(POLL_S)


_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}


@contextmanager
def booted(folder: Path) -> Iterator[Machine]:
    """A running machine whose root is made in `folder`; it is switched off at the end."""
    root = folder / "machine"
    _install(root)
    python = [f"--bind-ro={sys.base_prefix}:{INNER_PYTHON}"] if sys.base_prefix != "/usr" else []
    libraries = f"--bind-ro={sysconfig.get_path('purelib')}:/opt/libraries"
    command = ["systemd-nspawn", "-q", "-D", str(root), "--bind-ro=/usr", libraries, *python, "--machine=carrel-test", "--private-network"]
    command += ["--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe", "-b"]
    log = folder / "console"
    with log.open("wb") as console:
        outer = subprocess.Popen(command, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        yield _wait_for_boot(outer, log)
    finally:
        _switch_off(outer)


def _install(root: Path) -> None:
    """The root folder: what a fresh system has outside /usr, and what an administrator brings along."""
    for name in (
        "etc/systemd/system",
        "usr",
        "var",
        "opt/libraries",
        "opt/python",
        "home",
        "root",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    etc = root / "etc"
    shutil.copy("/usr/lib/os-release", etc)
    (etc / "machine-id").touch()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "ld.so.conf").write_text(f"include /etc/ld.so.conf.d/*.conf\n{INNER_PYTHON}/lib\n")
    (etc / "ld.so.conf.d").mkdir()
    _install_first(root / FIRST.relative_to("/"))
    wheels = root / WHEELS.relative_to("/")
    put_together(wheels, "cloud")
    shutil.copy(build_wheel(root.parent, wheels=wheels), wheels)
    subprocess.run(["chmod", "-R", "a+rX", str(root / "opt")], check=True, timeout=COMMAND_MAX_S)
    root.chmod(0o755)


def _install_first(prefix: Path) -> None:
    """An environment as `python -m venv` makes it, with the packages and a path to the libraries of the tests; what is installed comes from a wheel alone."""
    home = Path("/usr/bin") if sys.base_prefix == "/usr" else INNER_PYTHON / "bin"
    site_packages = prefix / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site_packages.mkdir(parents=True)
    (prefix / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (prefix / "bin").mkdir()
    (prefix / "bin" / "python").symlink_to(home / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    (site_packages / "libraries.pth").write_text("/opt/libraries\n")
    for package in packages():
        shutil.copytree(ROOT / package, site_packages / package, ignore=shutil.ignore_patterns("__pycache__"))
    (prefix / "bin" / "carrel").write_text(COMMAND)
    (prefix / "bin" / "carrel").chmod(0o755)


def _wait_for_boot(outer: subprocess.Popen[bytes], log: Path) -> Machine:
    """The machine when its service manager has nothing left to start."""
    deadline_s = time.monotonic() + BOOT_MAX_S
    while time.monotonic() < deadline_s and outer.poll() is None:
        if leader := _first_child(outer.pid):
            machine = Machine(leader)
            # "degraded" is as good: a unit of the system that cannot run in a container is none of ours.
            if machine.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                machine.run("ldconfig")
                return machine
        time.sleep(POLL_S)
    raise AssertionError(f"The machine did not boot:\n{log.read_text(errors='replace')}")


def _first_child(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _switch_off(outer: subprocess.Popen[bytes]) -> None:
    """Ends the container with everything in it."""
    leader = _first_child(outer.pid)
    outer.terminate()
    try:
        outer.wait(10)
    except subprocess.TimeoutExpired:
        if leader:
            os.kill(leader, 9)
        outer.kill()
        outer.wait(10)
