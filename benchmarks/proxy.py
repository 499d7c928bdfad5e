"""A relay between device and school's server on the loopback that counts what passes: bytes as they were sent, headers included."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 10.0
READ_BYTES = 256 * 1024
END_TIMEOUT_S = 5.0
# The end of every request's first line. Compressed bodies could hold it by chance, in one of 10¹⁵ megabytes.
_REQUEST_LINE_END = b" HTTP/1.1\r\n"


@dataclass(slots=True)
class Traffic:
    """What has passed so far: bytes from the device, bytes to it, and requests."""

    sent_bytes: int = 0
    received_bytes: int = 0
    requests: int = 0

    def forget(self) -> None:
        """Begins to count anew."""
        self.sent_bytes = self.received_bytes = self.requests = 0


@contextmanager
def relay(url: str) -> Iterator[tuple[str, Traffic]]:
    """The address of a relay to the server at `url`, and what passes through it. One that listens as long as the block lasts."""
    target = urlsplit(url)
    traffic, opened = Traffic(), list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(
            target=_accept, args=(listener, (target.hostname or "", target.port or 80), traffic, opened), daemon=True
        )
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", traffic
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join(END_TIMEOUT_S)
            for connection in opened:
                connection.close()


def _accept(listener: socket.socket, target: tuple[str, int], traffic: Traffic, opened: list[socket.socket]) -> None:
    with suppress(OSError):
        while True:
            device, _ = listener.accept()
            server = socket.create_connection(target, CONNECT_TIMEOUT_S)
            server.settimeout(None)
            for connection in (device, server):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.append(connection)
            threading.Thread(target=_carry_up, args=(device, server, traffic), daemon=True).start()
            threading.Thread(target=_carry_down, args=(server, device, traffic), daemon=True).start()


def _carry_up(device: socket.socket, server: socket.socket, traffic: Traffic) -> None:
    with suppress(OSError):
        while data := device.recv(READ_BYTES):
            traffic.sent_bytes += len(data)
            traffic.requests += data.count(_REQUEST_LINE_END)
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _carry_down(server: socket.socket, device: socket.socket, traffic: Traffic) -> None:
    with suppress(OSError):
        while data := server.recv(READ_BYTES):
            traffic.received_bytes += len(data)
            device.sendall(data)
        device.shutdown(socket.SHUT_WR)
