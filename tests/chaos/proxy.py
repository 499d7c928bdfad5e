"""A relay between device and school's server that breaks off, delays, truncates, repeats and swallows what passes."""

from __future__ import annotations

import random
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress

HOST = "127.0.0.1"
READ_BYTES = 64 * 1024
CONNECT_MAX_S = 5.0
# How long it takes at most until a connection notices that it is to end.
LOOK_EVERY_S = 0.1
# A fault strikes after so many bytes at most; small numbers are likelier.
CUT_AFTER_MAX_BYTES = 50_000
DELAY_MAX_S = 0.4
REPEAT_AFTER_MAX_S = 1.5
REPEATING_MAX = 8
REPEAT_BYTES_MAX = 1024 * 1024
END_MAX_S = 10.0

# What may happen to a connection, and how often in proportion.
CALM: Mapping[str, float] = {"pass": 1}
STORM: Mapping[str, float] = {"pass": 2, "refuse": 1, "cut request": 2, "cut answer": 3, "delay": 2, "black hole": 1, "repeat": 3}
PARTITION: Mapping[str, float] = {"refuse": 1, "black hole": 1}


class FaultyProxy:
    """Relays to `target_port`. `weather` says what happens to connections opened from now on; `heal` also ends those that are struck already."""

    def __init__(self, target_port: int, seed: int) -> None:
        self._target_port, self._randomness = target_port, random.Random(f"proxy {seed}")
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(LOOK_EVERY_S)
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self.weather = CALM
        self.struck: Counter[str] = Counter()
        self._generation = 0
        self._closing = threading.Event()
        self._repeating = threading.Semaphore(REPEATING_MAX)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="proxy")

    def heal(self) -> None:
        """Calm from now on."""
        self.weather = CALM
        self._generation += 1

    def break_all(self, weather: Mapping[str, float]) -> None:
        """Ends every open connection; new ones meet this weather."""
        self.weather = weather
        self._generation += 1

    def start(self) -> None:
        self._accepting.start()

    def close(self) -> None:
        self._closing.set()
        self._accepting.join(END_MAX_S)
        with self._lock:
            left = list(self._threads)
        for thread in left:
            thread.join(END_MAX_S)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                device, _ = self._listener.accept()
            except TimeoutError:
                continue
            kinds = list(self.weather)
            fate = self._randomness.choices(kinds, [self.weather[kind] for kind in kinds])[0]
            self.struck[fate] += fate != "pass"
            self._spawn(self._relay, device, fate, random.Random(self._randomness.random()), self._generation)

    def _spawn(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments)
        with self._lock:
            self._threads = [*(t for t in self._threads if t.is_alive()), thread]
            thread.start()

    def _relay(self, device: socket.socket, fate: str, draw: random.Random, generation: int) -> None:
        with device, suppress(OSError):
            if fate == "refuse":
                _reset(device)
                return
            with socket.create_connection((HOST, self._target_port), CONNECT_MAX_S) as server:
                with closing(_Relay(device, server, fate, draw)) as relay:
                    while not self._closing.is_set() and generation == self._generation and relay.step():
                        if relay.repeat:
                            self._repeat(relay.repeat, draw.uniform(0, REPEAT_AFTER_MAX_S))
                            relay.repeat = b""
                if draw.random() < 0.5:
                    _reset(device)

    def _repeat(self, request: bytes, after_s: float) -> None:
        """Sends a request once more, some time later, over a connection of its own; nobody reads the answer."""
        if self._repeating.acquire(blocking=False):
            self._spawn(self._send_again, request, after_s)

    def _send_again(self, request: bytes, after_s: float) -> None:
        try:
            self._closing.wait(after_s)
            with suppress(OSError), socket.create_connection((HOST, self._target_port), CONNECT_MAX_S) as server:
                server.settimeout(CONNECT_MAX_S)
                server.sendall(request)
                server.recv(READ_BYTES)
        finally:
            self._repeating.release()


class _Relay:
    """One connection and what becomes of it."""

    def __init__(self, device: socket.socket, server: socket.socket, fate: str, draw: random.Random) -> None:
        self._device, self._server, self._fate, self._draw = device, server, fate, draw
        self._bytes_left = {
            "cut request": int(CUT_AFTER_MAX_BYTES ** draw.random()),
            "cut answer": int(CUT_AFTER_MAX_BYTES ** draw.random()),
        }
        self._request = b""
        self.repeat = b""
        self._selector = selectors.DefaultSelector()
        for end in (device, server):
            end.settimeout(CONNECT_MAX_S)
            self._selector.register(end, selectors.EVENT_READ)

    def step(self) -> bool:
        """Passes on what has come; False when the connection is over."""
        return all(self._pass_on(key.fileobj is self._device) for key, _ in self._selector.select(LOOK_EVERY_S))

    def close(self) -> None:
        self._selector.close()

    def _pass_on(self, up: bool) -> bool:
        source, sink = (self._device, self._server) if up else (self._server, self._device)
        data = source.recv(READ_BYTES)
        if not data:
            return False
        if self._fate == "black hole":
            return True
        if self._fate == "delay":
            time.sleep(self._draw.uniform(0, DELAY_MAX_S))
        if self._fate == "repeat":
            self._remember(data, up)
        cut = "cut request" if up else "cut answer"
        if self._fate == cut:
            data = data[: self._bytes_left[cut]]
            self._bytes_left[cut] -= len(data)
        if data:
            sink.sendall(data)
        return self._fate != cut or self._bytes_left[cut] > 0

    def _remember(self, data: bytes, up: bool) -> None:
        if up and len(self._request) < REPEAT_BYTES_MAX:
            self._request += data
        elif not up and self._request:
            self.repeat, self._request = self._request, b""


def _reset(connection: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def faulty_proxy(target_port: int, seed: int) -> Iterator[FaultyProxy]:
    """A relay as long as the block lasts."""
    proxy = FaultyProxy(target_port, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
