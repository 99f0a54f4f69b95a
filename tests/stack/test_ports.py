"""Ports: chosen once, remembered, never somebody else's."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.errors import PortTakenError, UnknownServiceError
from stack.home import Home
from stack.ports import HIGHEST, HOST, LOWEST, assign_ports, is_free, remembered_ports


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.run.mkdir()
    return home


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_differ_are_free_and_are_remembered(home: Home) -> None:
    ports = assign_ports(home, ["a", "b", "c"], {})
    assert len(set(ports.values())) == 3
    assert all(LOWEST <= port <= HIGHEST and is_free(port) for port in ports.values())
    assert assign_ports(home, ["a", "b", "c"], {}) == ports == remembered_ports(home)


def test_a_remembered_port_that_somebody_took_is_chosen_anew(home: Home, taken: int) -> None:
    before = assign_ports(home, ["a", "b"], {})
    home.ports.write_text(f'{{"format": 1, "ports": {{"a": {taken}, "b": {before["b"]}}}}}')
    after = assign_ports(home, ["a", "b"], {})
    assert after["a"] != taken and after["b"] == before["b"]


def test_a_port_that_was_asked_for_is_used_and_remembered(home: Home) -> None:
    asked = assign_ports(home, ["a"], {})["a"] + 1
    assert assign_ports(home, ["a", "b"], {"a": asked})["a"] == asked
    assert assign_ports(home, ["a", "b"], {})["a"] == asked


def test_a_remembered_port_gives_way_to_one_asked_for(home: Home) -> None:
    before = assign_ports(home, ["a", "b"], {})
    after = assign_ports(home, ["a", "b"], {"a": before["b"]})
    assert after["a"] == before["b"] != after["b"]


def test_a_port_asked_for_must_be_free(home: Home, taken: int) -> None:
    with pytest.raises(PortTakenError, match=str(taken)):
        assign_ports(home, ["a"], {"a": taken})


def test_a_port_can_be_asked_only_for_services_that_listen(home: Home) -> None:
    with pytest.raises(UnknownServiceError, match="'trainer', expected one of a"):
        assign_ports(home, ["a"], {"trainer": 12345})


def test_a_damaged_memory_is_as_good_as_none(home: Home) -> None:
    for text in ("", "[]", '{"ports": 3}', '{"ports": {"a": "x"}}'):
        home.ports.write_text(text)
        assert remembered_ports(home) == {}
        assert assign_ports(home, ["a"], {}).keys() == {"a"}
