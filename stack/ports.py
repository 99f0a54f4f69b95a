"""Which port each service listens on: chosen once, remembered, several homes side by side."""

import random
import socket
from collections.abc import Mapping, Sequence

from imaging.errors import RecordError
from imaging.publish import read_json, write_json
from stack.errors import PortTakenError, StackError, UnknownServiceError, UsageError
from stack.home import Home

HOST = "127.0.0.1"
# Below 32768, where Linux takes the ports of outgoing connections: a remembered port would
# otherwise be in use now and then by somebody's web browser.
LOWEST, HIGHEST = 10240, 32767


def is_free(port: int) -> bool:
    """Whether a service could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the last run that still lingers is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def remembered_ports(home: Home) -> dict[str, int]:
    """Service → port, as last chosen; a damaged file is as good as none."""
    try:
        record = read_json(home.ports).get("ports", {})
        return {str(name): int(port) for name, port in record.items()}
    except (RecordError, AttributeError, TypeError, ValueError):
        return {}


def assign_ports(home: Home, services: Sequence[str], asked: Mapping[str, int]) -> dict[str, int]:
    """A port for every service, kept from last time wherever it is still free.

    Args:
        home: whose memory is used and updated.
        services: the names of those that listen.
        asked: service → port, as given on the command line.

    Raises:
        UnknownServiceError: a port was asked for a service that listens on none.
        UsageError: one port was asked for two services.
        PortTakenError: a port that was asked for is in use.
    """
    for name, port in asked.items():
        same = [other for other in asked if asked[other] == port]
        if len(same) > 1:
            raise UsageError(f"port {port} is given to {' and '.join(same)}, expected one service")
        if name not in services:
            raise UnknownServiceError(name, services)
        if not is_free(port):
            raise PortTakenError(f"port {port}, asked for {name}, is in use")
    before = remembered_ports(home)
    ports = dict(asked)
    for name in services:
        if name not in ports:
            kept = before.get(name)
            usable = kept is not None and kept not in ports.values() and is_free(kept)
            ports[name] = kept if kept is not None and usable else _free_port(ports, before)
    if ports != before:
        write_json(home.ports, {"format": 1, "ports": ports})
    return ports


def _free_port(taken: Mapping[str, int], reserved: Mapping[str, int]) -> int:
    candidates = random.SystemRandom().sample(range(LOWEST, HIGHEST + 1), 500)
    others = {*taken.values(), *reserved.values()}
    for port in candidates:
        if port not in others and is_free(port):
            return port
    raise StackError(f"500 ports between {LOWEST} and {HIGHEST} were tried, all are in use")
