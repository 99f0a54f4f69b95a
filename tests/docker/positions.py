"""Where a packet starts: sockets of this process in another network namespace.

A namespace belongs to a thread, so whoever asks from elsewhere asks in a thread of its own. It
needs root; `no_positions` says why it cannot be done here.
"""

import asyncio
import ctypes
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000
AT_ONCE = 400
# Refusals come at once on this machine's own links; what is dropped never answers.
PATIENCE_S = 2.0

Answer = TypeVar("Answer")
Door = tuple[str, int]


def no_positions() -> str:
    """Why sockets cannot be opened elsewhere; empty when they can."""
    if os.geteuid() != 0:
        return "only root enters other network namespaces"
    missing = [name for name in ("ip", "ss") if shutil.which(name) is None]
    return f"{' and '.join(missing)} of iproute2 are not installed" if missing else ""


@dataclass(frozen=True, slots=True)
class Position:
    """One network namespace."""

    file: Path  # /proc/<pid>/ns/net, or one that `ip netns add` made

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """What a function answers whose sockets are opened there."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._enter_and_ask, question).result()

    def _enter_and_ask(self, question: Callable[[], Answer]) -> Answer:
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(self.file))
        finally:
            os.close(descriptor)
        return question()

    def open_doors(self, doors: Iterable[Door], patience_s: float = PATIENCE_S) -> set[Door]:
        """Those of the addresses and ports that a TCP connection can be made to."""
        return self.ask(lambda: asyncio.run(_scan(list(doors), patience_s)))


async def _scan(doors: list[Door], patience_s: float) -> set[Door]:
    loop, left, found = asyncio.get_running_loop(), iter(doors), set()

    async def knock() -> None:
        for door in left:  # shared by all who knock
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                try:
                    async with asyncio.timeout(patience_s):
                        await loop.sock_connect(probe, door)
                except OSError:  # refused, no route, no answer in time
                    continue
                found.add(door)

    await asyncio.gather(*(knock() for _ in range(min(AT_ONCE, len(doors)))))
    return found


@dataclass(frozen=True, slots=True)
class Stranger(Position):
    """A machine next door: on a cable to this one, without a password."""

    host: str  # this machine's address on the cable
    name: str

    def route(self, networks: Iterable[str]) -> None:
        """Send packets for these networks to this machine, as a curious neighbour may."""
        for network in networks:
            _ip("-netns", self.name, "route", "replace", network, "via", self.host)


@contextmanager
def stranger(name: str) -> Iterator[Stranger]:
    """A namespace with a cable to this machine; gone afterwards, whatever happens.

    Args:
        name: of the namespace; its interfaces are called after it, so 11 letters at most.
    """
    near, far = f"{name}-h", f"{name}-s"
    host, guest = _free_pair()
    try:
        _ip("netns", "add", name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("address", "add", f"{host}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-netns", name, "address", "add", f"{guest}/30", "dev", far)
        _ip("-netns", name, "link", "set", far, "up")
        yield Stranger(Path("/run/netns") / name, host, name)
    finally:
        for words in (("link", "delete", near), ("netns", "delete", name)):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def _free_pair() -> tuple[str, str]:
    """Two addresses of a /30 that this machine has no other use for."""
    taken = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
    for third in range(256):
        network = ipaddress.ip_network(f"198.18.{third}.0/30")  # set apart for tests of networks
        if str(network) not in taken:
            host, guest = (str(address) for address in network.hosts())
            return host, guest
    raise AssertionError("198.18.0.0/16 is full")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


def of_container(record: Mapping[str, Any]) -> Position:
    """Where a container stands, by its `docker inspect`."""
    return Position(Path(f"/proc/{record['State']['Pid']}/ns/net"))


def listening() -> dict[int, str]:
    """Port → who listens there on an address that others reach; empty names belong to others."""
    words = ["ss", "--listening", "--tcp", "--numeric", "--processes", "--no-header"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    found: dict[int, str] = {}
    for line in lines:
        fields = line.split()
        address, _, port = fields[3].rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found[int(port)] = fields[5] if len(fields) > 5 else ""
    return found
