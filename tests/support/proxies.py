"""nginx and Caddy as docs/examples configures them, in front of a server of the test, with certificates of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import free_port, wait_until
from tests.support.examples import example

NAME = "carrel.example.school"
HOST = "localhost"
ANSWER_MAX_S, END_MAX_S = 2.0, 20.0
RELOAD_MAX_S = 20.0


@dataclass(frozen=True)
class Proxy:
    """A running proxy. `certificate` is the file that it reads at a reload; `port` speaks TLS, `plain_port` does not."""

    kind: str
    port: int
    plain_port: int
    certificate: Path
    reload: Callable[[], None]

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"


def why_not(kind: str) -> str | None:
    """What is missing on this machine, or None."""
    return None if shutil.which(kind) else f"needs {kind}"


@contextmanager
def proxy(kind: str, server_port: int, certificate: Path, folder: Path, **changes: str) -> Iterator[Proxy]:
    """The proxy `kind` in front of the server at that port, as long as the block lasts; `certificate` holds key and certificate. For nginx
    alone: `body_bytes_max` is another limit, `other_port` that of another server.
    """
    ports = free_port(), free_port()
    command, environ, reload = {"nginx": _nginx, "caddy": _caddy}[kind](server_port, ports, certificate, folder, **changes)
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(process, ports[0], folder / "proxy.log"), f"{kind} answers")
        yield Proxy(kind, *ports, certificate, lambda: reload(process))
    finally:
        process.terminate()
        process.wait(END_MAX_S)


Reload = Callable[["subprocess.Popen[bytes]"], None]
Made = tuple[list[str], dict[str, str], Reload]


def _nginx(
    server_port: int, ports: tuple[int, int], certificate: Path, folder: Path, body_bytes_max: str = "8m", other_port: str = ""
) -> Made:
    site = {
        "listen 443 ssl": f"listen 127.0.0.1:{ports[0]} ssl",
        "listen 80": f"listen 127.0.0.1:{ports[1]}",
        f"server_name {NAME}": f"server_name {HOST}",
        f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
        f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(certificate),
        "127.0.0.1:8751": f"127.0.0.1:{server_port}",
        "client_max_body_size 8m": f"client_max_body_size {body_bytes_max}",
    }
    if other_port:
        site["#server 10.0.0.2:8751 "] = f"server 127.0.0.1:{other_port} "
    (folder / "carrel.conf").write_text(example("examples/nginx.conf", site))
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = f"daemon off; pid {folder}/nginx.pid; error_log stderr; {'user root;' if os.geteuid() == 0 else ''}"
    (folder / "nginx.conf").write_text(f"{main} events {{}} http {{ {temporary} include {folder}/carrel.conf; }}\n")
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr"]

    def reload(process: subprocess.Popen[bytes]) -> None:
        before = _children(process.pid)
        process.send_signal(signal.SIGHUP)
        # The workers of before stay for as long as they have requests; new ones take what comes from now on.
        wait_until(lambda: bool(_children(process.pid) - before), "nginx has new workers", RELOAD_MAX_S)

    return command, {}, reload


def _caddy(server_port: int, ports: tuple[int, int], certificate: Path, folder: Path) -> Made:
    site = {
        f"\n{NAME} {{": f"\n{HOST} {{",
        "#tls /etc/carrel/fullchain.pem /etc/carrel/privkey.pem     instead": f"tls {certificate} {certificate} #",
        "127.0.0.1:8751": f"127.0.0.1:{server_port}",
    }
    admin = f"localhost:{free_port()}"
    ground = f"{{\n\thttps_port {ports[0]}\n\thttp_port {ports[1]}\n\tadmin {admin}\n\tdefault_bind 127.0.0.1\n}}\n"
    config = folder / "Caddyfile"
    config.write_text(ground + example("examples/Caddyfile", site))
    environ = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}

    def reload(process: subprocess.Popen[bytes]) -> None:
        command = ["caddy", "reload", "--force", "--address", admin, "--config", str(config), "--adapter", "caddyfile"]
        done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=RELOAD_MAX_S, check=False)
        if done.returncode:
            raise AssertionError(f"Caddy was not reloaded: {done.stderr}")

    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"], environ, reload


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"it ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
    try:
        socket.create_connection(("127.0.0.1", port), ANSWER_MAX_S).close()
    except OSError:
        return False
    return True
