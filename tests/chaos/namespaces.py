"""Networks of their own for threads of this process and for what they start, and the wire between two of them. Linux, with the rights of root.

A network lasts as long as somebody is in it or holds it: nothing of it is left behind, however a test ends, and the machine's own is not touched.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_COMMAND_MAX_S = 20.0
# A device speaks plain HTTP to loopback addresses alone. So those of this part of them lead over the wire; 127.0.0.x stays where it is on either side.
SCHOOL_ADDRESS, DEVICE_ADDRESS = "127.77.0.1", "127.77.0.2"
_PREFIX = "/24"
_SCHOOL_END, _DEVICE_END = "school-end", "device-end"
# A hardware address of nobody's: the other end drops what is sent there.
_NOBODY = "02:00:00:00:00:99"

_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """A network namespace in which nothing is but loopback. Raises OSError where this process may not make one. To be closed."""

    def __init__(self) -> None:
        before = _open_present()
        try:
            _called(_libc.unshare(_CLONE_NEWNET))
            try:
                self._fd = _open_present()
                self._set_up_loopback()
            finally:
                _called(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    @property
    def path(self) -> str:
        """A name of it for other programs."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside meanwhile, with every thread and process that it starts. A socket stays in the network where it was made."""
        before = _open_present()
        try:
            _called(_libc.setns(self._fd, _CLONE_NEWNET))
            try:
                yield
            finally:
                _called(_libc.setns(before, _CLONE_NEWNET))
        finally:
            os.close(before)

    def close(self) -> None:
        os.close(self._fd)

    @staticmethod
    def _set_up_loopback() -> None:
        Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
        _ip("link", "set", "lo", "up")
        _ip("address", "delete", "127.0.0.1/8", "dev", "lo")
        _ip("address", "add", "127.0.0.1" + _PREFIX, "dev", "lo")


@dataclass(frozen=True, slots=True)
class Wire:
    """The wire between the school's network and a device's, and what may be done to it until `heal`."""

    school: Network
    device: Network

    def cut(self) -> None:
        """The plug is out on the device's side, whose kernel knows: connecting fails at once."""
        _ip_in(self.device, "link", "set", _DEVICE_END, "down")

    def silence(self) -> None:
        """It is cut behind the school: whatever the device sends is gone, and nobody tells."""
        _ip_in(self.school, "link", "set", _SCHOOL_END, "down")

    def lose_requests(self) -> None:
        """What the device sends is gone; what is sent to it arrives."""
        _ip_in(self.device, "neighbour", "replace", SCHOOL_ADDRESS, "lladdr", _NOBODY, "nud", "permanent", "dev", _DEVICE_END)

    def lose_answers(self) -> None:
        """The other way round."""
        _ip_in(self.school, "neighbour", "replace", DEVICE_ADDRESS, "lladdr", _NOBODY, "nud", "permanent", "dev", _SCHOOL_END)

    def forget(self) -> None:
        """The device's connections to the school end there. While nothing passes the school does not hear of it, and goes on with what was asked."""
        with self.device.entered():
            _run("ss", "--kill", "--tcp", "dst", SCHOOL_ADDRESS)

    def heal(self) -> None:
        """Everything passes again."""
        for network, end in ((self.school, _SCHOOL_END), (self.device, _DEVICE_END)):
            _ip_in(network, "link", "set", end, "up")
            _ip_in(network, "neighbour", "flush", "dev", end, "nud", "all")

    def passed_bytes(self) -> int:
        """How many bytes have gone over the device's end, either way."""
        with self.device.entered():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        figures = next(line.partition(":")[2].split() for line in lines if line.strip().startswith(_DEVICE_END))
        return int(figures[0]) + int(figures[8])


@contextmanager
def wired_networks() -> Iterator[Wire]:
    """A school's network and a device's, with a wire between them that passes everything. Raises OSError where this process may not make them."""
    with closing(Network()) as school, closing(Network()) as device:
        _ip_in(school, "link", "add", _SCHOOL_END, "type", "veth", "peer", "name", _DEVICE_END, "netns", device.path)
        for network, end, address in ((school, _SCHOOL_END, SCHOOL_ADDRESS), (device, _DEVICE_END, DEVICE_ADDRESS)):
            _ip_in(network, "address", "add", address + _PREFIX, "dev", end)
            _ip_in(network, "link", "set", end, "up")
        yield Wire(school, device)


@cache
def without_networks() -> str | None:
    """Why there can be no networks of their own on this machine; None when there can."""
    if not hasattr(_libc, "setns") or not shutil.which("ip") or not shutil.which("ss"):
        return "needs Linux, ip and ss"
    try:
        with wired_networks() as wire:
            wire.forget()
            return None
    except OSError as error:
        return f"needs the right to make network namespaces: {error}"


def _open_present() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _called(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip_in(network: Network, *arguments: str) -> None:
    with network.entered():
        _ip(*arguments)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_MAX_S, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
