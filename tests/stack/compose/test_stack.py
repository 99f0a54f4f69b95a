"""Reading Compose files as Docker runs them. That Compose agrees is tested in tests/docker."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.compose import Container, Mount, Port, SecretFiles, Stack, all_variables, read_stack
from stack.compose.units import parse_duration, parse_size
from stack.errors import ComposeError
from tests.docker.compose_json import duration

BASE = """
x-all: &all {read_only: true}
x-more: &more {init: true}
services:
  web:
    <<: [*all, *more]
    image: ${WEB_IMAGE:-web:1}
    networks: [front]
    environment: {A: 1, B: , C: "$$x"}
    ports: ["${BIND:-127.0.0.1}:${PORT:-80}:8080"]
    volumes: [data:/data, ./conf:/conf:ro]
    command: [one]
    x-secrets: {files: [token]}
networks: {front: {internal: true}}
volumes: {data: {external: true, name: "${STACK_NAME:-lab}_data"}}
"""


def read(folder: Path, *texts: str, **variables: str) -> Stack:
    files = [folder / f"{number}.yaml" for number in range(len(texts))]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return read_stack(files, variables)


def web(folder: Path, *overrides: str, **variables: str) -> Container:
    return read(folder, BASE, *overrides, **variables).containers["web"]


def problems(folder: Path, entry: str) -> str:
    with pytest.raises(ComposeError) as caught:
        read(folder, f"services: {{a: {{image: i, network_mode: none, {entry}}}}}")
    return str(caught.value)


def test_a_service_becomes_a_container(tmp_path: Path) -> None:
    one = web(tmp_path, B="given", PORT="81")
    assert (one.image, one.read_only, one.init) == ("web:1", True, True)
    assert one.environment == {"A": "1", "B": "given", "C": "$x"}
    assert one.ports == (Port(8080, "81", "127.0.0.1"),)
    assert one.mounts == (
        Mount("volume", "data", "/data"),
        Mount("bind", f"{tmp_path}/conf", "/conf", read_only=True, create_host_path=True),
    )
    assert one.secrets == SecretFiles(("token",))
    assert one.health is None and one.mem_limit_bytes is None


def test_names_in_docker_come_from_the_project(tmp_path: Path) -> None:
    stack = read(tmp_path, f"name: lab\n{BASE}")
    assert stack.networks["front"].name == "lab_front"
    assert stack.volumes["data"].name == "lab_data"


def test_an_override_replaces_what_is_the_same_and_adds_the_rest(tmp_path: Path) -> None:
    one = web(
        tmp_path,
        """
        services:
          web:
            environment: {A: 2, C: , D: 3}
            volumes: [other:/data, data:/more]
            ports: ["127.0.0.1:80:8080/udp"]
            command: [two, words]
            read_only:
        volumes: {other: {}}
        """,
    )
    assert one.environment == {"A": "2", "B": None, "C": None, "D": "3"}
    assert [(m.source, m.target) for m in one.mounts][:1] == [("other", "/data")]
    assert [mount.target for mount in one.mounts] == ["/data", "/conf", "/more"]
    assert len(one.ports) == 2
    assert one.command == ("two", "words")
    assert one.read_only, "a key without a value leaves what is there"


def test_an_override_may_take_a_key_away(tmp_path: Path) -> None:
    text = "services: {web: {networks: !reset null, network_mode: none, ports: !reset []}}"
    one = web(tmp_path, text)
    assert (one.networks, one.ports, one.network_mode) == ({}, (), "none")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("privileged: true", "services.a: privileged is not understood"),
        ("build: {target: x}", "services.a.build: target is not understood"),
        ("mem_limit: much", "services.a.mem_limit is 'much', expected a size"),
        ("stop_grace_period: 5", "services.a.stop_grace_period is 5, expected a duration"),
        ("pids_limit: many", "services.a.pids_limit is 'many', expected a whole number"),
        ("read_only: 'yes'", "services.a.read_only is 'yes', expected true or false"),
        ("user: 1000", "services.a.user is 1000, expected text"),
        ("ports: ['80']", "services.a.ports[0] is '80', expected"),
        ("ports: ['1-2:1-2']", "services.a.ports[0] is '1-2:1-2', expected"),
        ("ports: [22:22]", "services.a.ports[0] is 1342, expected text"),  # YAML 1.1 counts in 60s
        ("volumes: [/data]", "services.a.volumes[0] is '/data', expected SOURCE:/TARGET"),
        ("volumes: ['~/x:/x']", "expected a volume's name, or a path that starts"),
        ("volumes: ['x:/x']", "services.a.volumes is 'x', expected one of none"),
        ("volumes: [{type: tmpfs, source: a, target: /a}]", "expected bind or volume"),
        ("networks: [x]", "services.a.networks is 'x', expected one of none"),
        ("environment: [A=1]", "services.a.environment is ['A=1'], expected a mapping"),
        ("environment: {A: true}", "(true and false in quotes)"),
        ("healthcheck: {test: [sh]}", "expected a line, or a list that starts with CMD"),
        ("depends_on: {b: {condition: up}}", "expected service_started or service_healthy or"),
        ("depends_on: [b]", "services.a.depends_on is 'b', expected one of a"),
        ("user: '${X}'", "services.a.user: X is not set"),
        ("user: '${X:?name it}'", "X is not set: name it"),
        ("init: true, init: false", "'init' stands twice"),
        ("command: !override [a]", "!override"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, entry: str, expected: str
) -> None:
    assert expected in problems(tmp_path, entry)


def test_a_service_without_a_network_would_get_one_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ComposeError, match=r"a\.networks is None, expected networks, or"):
        read(tmp_path, "services: {a: {image: i}}")


def test_a_missing_variable_in_an_override_names_that_file(tmp_path: Path) -> None:
    with pytest.raises(ComposeError, match=r"1\.yaml: services\.web\.labels\.x: Y is not set"):
        web(tmp_path, 'services: {web: {labels: {x: "${Y:?}"}}}')


def test_every_variable_is_found_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    local = 'x-local: {environment: {E: "${F}", G: }, health: {http: "${H:-x}"}}'
    text = BASE.replace("    x-secrets", f"    {local}\n    x-secrets")
    path.write_text(f'{text}x-z: "${{Z:?}}"\n', encoding="utf-8")
    assert all_variables([path]) == {
        *("WEB_IMAGE", "BIND", "PORT", "STACK_NAME"),
        *("B", "F", "G", "H", "Z"),
    }


@given(st.integers(0, 10**6))
def test_durations_are_read_as_they_are_written(milliseconds: int) -> None:
    assert parse_duration(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("1.5g", 3 << 29), ("2GB", 2 << 30), ("7", 7), ("1kib", 1024)],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "5 minutes", "-1m", "1m x"])
def test_what_is_no_duration_or_size_is_none(text: str) -> None:
    assert parse_duration(text) is None and parse_size(text) is None
