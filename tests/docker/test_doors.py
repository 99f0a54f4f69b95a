"""A whole lab, seen from next door and from inside its containers: what answers whom."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.docker.engine import docker
from tests.docker.labs import PORTS, DockerLab
from tests.docker.positions import (
    Door,
    Stranger,
    listening,
    no_positions,
    of_container,
    stranger,
)

pytestmark = [pytest.mark.docker, pytest.mark.label_studio]
needs_root = pytest.mark.skipif(bool(no_positions()), reason=no_positions() or "it can be done")
PAGE = {"Accept": "text/html,application/xhtml+xml"}
# Where each service listens, and the gateway besides.
INSIDE = {
    "gateway": (8080, 8443, 8444, 8445, 8446),
    "label-studio": (8080,),
    "files-lite": (80,),
    "tensorboard": (6006,),
    "db": (5432,),
    "ml-backend": (9090,),
    "watchdog": (8096,),
    "ingest": (),
    "trainer": (),
}
# Who shares a network, and with whom: `web`, `data` and `loop` of compose.yaml.
WEB, LOOP = {"gateway", "label-studio", "files-lite", "tensorboard"}, {"label-studio"}
REACHES: dict[str, set[str]] = {
    "gateway": WEB,
    "files-lite": WEB,
    "tensorboard": WEB,
    "db": {"label-studio"},
    "ml-backend": {"label-studio", "watchdog"},
    "watchdog": {"label-studio", "ml-backend"},
    "ingest": {"label-studio", "ml-backend", "watchdog"},
    "label-studio": {*WEB, "db", "ml-backend", "watchdog"},
    "trainer": set(),
}


@pytest.fixture(scope="module")
def neighbour(stack: DockerLab) -> Iterator[Stranger]:
    with stranger(stack.name) as found:
        yield found


def own_ports(stack: DockerLab) -> set[int]:
    return {int(stack.settings[f"GATEWAY_{name}"]) for name in PORTS}


def addresses(stack: DockerLab) -> dict[str, dict[str, str]]:
    """Service → network → address, of all that run."""
    found = {}
    for name in INSIDE:
        networks = stack.inspect(name)["NetworkSettings"]["Networks"]
        found[name] = {
            network.removeprefix(f"{stack.name}_"): one["IPAddress"]
            for network, one in networks.items()
            if one["IPAddress"]
        }
    return found


def networks(stack: DockerLab) -> dict[str, dict[str, Any]]:
    label = f"label=com.docker.compose.project={stack.name}"
    names = docker("network", "ls", "--filter", label, "--format", "{{.Name}}").split()
    records = json.loads(docker("network", "inspect", *names))
    return {one["Name"].removeprefix(f"{stack.name}_"): one for one in records}


def every_door(stack: DockerLab) -> set[Door]:
    """Every port of the lab's services, at every address of any of them."""
    ports = {port for one in INSIDE.values() for port in one} | {2019, 6379, 443}
    places = [address for one in addresses(stack).values() for address in one.values()]
    return {(address, port) for address in places for port in ports}


# --- from next door: the network -----------------------------------------------------------------


@needs_root
def test_a_scan_of_all_ports_finds_the_gateways_five_and_no_other(
    stack: DockerLab, neighbour: Stranger
) -> None:
    others = not_of_the_lab(stack)
    found = neighbour.open_doors((neighbour.host, port) for port in range(1, 65536))
    others |= not_of_the_lab(stack)  # what began meanwhile
    assert own_ports(stack) <= {port for _, port in found}
    assert {port for _, port in found} - others == own_ports(stack)


def not_of_the_lab(stack: DockerLab) -> set[int]:
    """Ports of this machine's own programs, and of other people's containers."""
    ports = {port for port, who in listening().items() if "docker-proxy" not in who}
    ours = set(stack.containers().values())
    for container in docker("ps", "--quiet", "--no-trunc").split():
        if container not in ours:
            lines = docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", container)
            bound = [one for some in json.loads(lines).values() for one in some or ()]
            ports |= {int(one["HostPort"]) for one in bound}
    return ports - own_ports(stack)


def test_only_the_gateway_publishes_and_nobody_lives_in_the_machines_network(
    stack: DockerLab,
) -> None:
    for name in INSIDE:
        record = stack.inspect(name)["HostConfig"]
        assert record["NetworkMode"] != "host" and not record["PublishAllPorts"], name
        bindings = [one for some in (record["PortBindings"] or {}).values() for one in some]
        expected = own_ports(stack) if name == "gateway" else set()
        assert {int(one["HostPort"]) for one in bindings} == expected, name


@needs_root
def test_who_knows_the_containers_addresses_gets_no_further(
    stack: DockerLab, neighbour: Stranger
) -> None:
    """Docker lets published ports be reached by the container's address as well; those alone."""
    neighbour.route(one["IPAM"]["Config"][0]["Subnet"] for one in networks(stack).values())
    published = {(addresses(stack)["gateway"]["outside"], port) for port in INSIDE["gateway"]}
    assert neighbour.open_doors(every_door(stack)) == published


@needs_root
def test_next_door_gets_the_pages_by_tls_and_nothing_without_a_login(
    stack: DockerLab, neighbour: Stranger
) -> None:
    trust = ssl.create_default_context(cafile=str(stack.authority))

    def codes() -> list[int]:
        # The certificate is for the lab's own address, which is 127.0.0.1 here.
        with httpx.Client(verify=trust, trust_env=False) as client:
            return [
                client.get(
                    f"https://{neighbour.host}:{port}/api/projects",
                    headers={"Host": f"127.0.0.1:{port}"},
                    extensions={"sni_hostname": "127.0.0.1"},
                ).status_code
                for port in (stack.settings[f"GATEWAY_{app}_PORT"] for app in ("LABEL", "BOARD"))
            ]

    assert neighbour.ask(codes) == [401, 401]


# --- from within: what a container that was broken into reaches -----------------------------------


@needs_root
@pytest.mark.parametrize("name", REACHES)
def test_a_service_reaches_those_it_talks_to(stack: DockerLab, name: str) -> None:
    here = of_container(stack.inspect(name))
    all_of_them = addresses(stack)
    own = all_of_them.pop(name)
    # The gateway has a way out, where anybody may answer to an address that is not on its networks.
    near = {
        place: other
        for other, some in all_of_them.items()
        for network, place in some.items()
        if name != "gateway" or network in own
    }
    doors = here.open_doors(door for door in every_door(stack) if door[0] in near)
    expected = {(other, port) for other in REACHES[name] - {name} for port in INSIDE[other]}
    assert {(near[address], port) for address, port in doors} == expected


def test_the_gateway_is_on_no_network_but_the_pages_and_the_way_out(stack: DockerLab) -> None:
    assert set(addresses(stack)["gateway"]) == {"outside", "web"}


@needs_root
@pytest.mark.parametrize("name", [name for name in INSIDE if name != "gateway"])
def test_no_packet_gets_out_of_a_container_nor_to_the_machine(stack: DockerLab, name: str) -> None:
    record = stack.inspect(name)
    words = ["nsenter", f"--net=/proc/{record['State']['Pid']}/ns/net", "ip", "route"]
    routes = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "default" not in routes
    ways = [one["IPAM"]["Config"][0]["Gateway"] for one in networks(stack).values()]
    # The gateway's plain port is open on every address that this machine has.
    port = int(stack.settings["GATEWAY_HTTP_PORT"])
    assert of_container(record).open_doors({(way, port) for way in ways}) == set()


def test_names_of_the_world_mean_nothing_inside(stack: DockerLab) -> None:
    """Engines before 25.0.5 asked the machine's resolver, which is a way out for data."""
    question = "import socket; print(socket.gethostbyname('example.com'))"
    for name in ("ingest", "label-studio", "files-lite"):
        command = ["docker", "exec", stack.container(name), "python", "-c", question]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert answer.returncode != 0 and "gaierror" in answer.stderr, name
