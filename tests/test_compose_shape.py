"""Every container of compose.yaml is locked up, limited, looked at and written about."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.compose import Stack, read_stack
from stack.compose.document import load
from stack.compose.variables import references
from stack.environments import ROOT
from stack.errors import ComposeError, UsageError
from tests.compose_rules import ONE_SHOTS, complaints

COMPOSE_FILE = ROOT / "compose.yaml"
OVERRIDES = sorted((ROOT / "stack" / "overrides").glob("*.yaml"))
# What every stack has; all else is left at its default.
GIVEN = {"STACK_NAME": "STACK", "SECRETS_DIR": "/home/secrets"}
DOCUMENT = load(COMPOSE_FILE)
STACK = read_stack([COMPOSE_FILE], GIVEN)

Document = dict[str, Any]


def found_in(document: Document, folder: Path) -> list[str]:
    path = folder / "compose.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return complaints(read_stack([path], GIVEN, folder=ROOT), document)


def test_nothing_is_wrong_with_the_stack() -> None:
    assert complaints(STACK, DOCUMENT) == []


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda path: path.stem)
def test_no_override_loosens_anything(override: Path) -> None:
    needed = {match["name"]: f"/srv/{match['name']}" for match in references(load(override))}
    stack = read_stack([COMPOSE_FILE, override], needed | GIVEN)
    assert complaints(stack, DOCUMENT) == []


def test_what_is_said_to_end_is_there() -> None:
    """`backup` and `restore` come with the verbs of these names."""
    assert ONE_SHOTS.keys() - {"backup", "restore"} <= STACK.containers.keys()


@pytest.mark.parametrize("profile", ["lab", "files-lite", "trainer"])
def test_a_profile_starts_all_that_its_services_wait_for(profile: str) -> None:
    started = STACK.with_profiles({profile})
    assert "trainer" in started.containers
    assert ("gateway" in started.containers) is (profile != "trainer")
    if profile == "trainer":
        assert not started.networks, "a second box trains, and talks to nobody"


def test_every_image_of_others_can_be_named_by_its_digest() -> None:
    names = {
        match["name"]
        for service in DOCUMENT["services"].values()
        for match in references(service["image"])
    }
    digest = "registry.example/x@sha256:" + 64 * "0"
    others = {name: digest for name in names if name.endswith("_IMAGE")}
    images = {one.image for one in read_stack([COMPOSE_FILE], GIVEN | others).containers.values()}
    assert {image for image in images if image and not image.startswith("labloop/")} == {digest}


# --- each rule complains ------------------------------------------------------------------------


def without(key: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for service in document["services"].values():
            service.pop(key, None)

    return change


def with_key(service: str, **keys: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["services"][service].update(keys)

    return change


def with_environment(service: str, **keys: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["services"][service]["environment"].update(keys)

    return change


def with_volume(service: str, *volumes: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["services"][service]["volumes"] += volumes

    return change


def with_top(section: str, name: str, entry: object) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document[section][name] = entry

    return change


def with_service(name: str, like: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        document["services"][name] = copy.deepcopy(document["services"][like])

    return change


@pytest.mark.parametrize(
    "key",
    [
        "mem_limit",
        "pids_limit",
        "cap_drop",
        "security_opt",
        "read_only",
        "user",
        "init",
        "logging",
        "restart",
        "image",
    ],
)
def test_a_key_that_every_service_must_have_is_missed_in_each(key: str, tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    without(key)(document)
    if key == "image":
        with pytest.raises(ComposeError, match=r"gateway\.image.*redis\.image"):
            found_in(document, tmp_path)
        return
    found = found_in(document, tmp_path)
    assert {complaint.partition(":")[0] for complaint in found} == STACK.containers.keys()


CHANGES: dict[str, tuple[Callable[[Document], None], str]] = {
    "no health check": (with_key("redis", healthcheck=None), "redis: has no health check"),
    "switched off": (with_key("redis", healthcheck={"disable": True}), "redis: its health check"),
    "one-shot restarts": (with_key("label-studio-migrate", restart="always"), "ends by itself"),
    "one-shot is asked": (with_key("label-studio-migrate", healthcheck=None), "ends by itself"),
    "some rights": (with_key("redis", cap_drop=["NET_RAW"]), "redis: cap_drop"),
    "another right": (with_key("redis", cap_add=["SYS_ADMIN"]), "redis: cap_add has SYS_ADMIN"),
    "root": (with_key("redis", user="0:0"), "redis: user is '0:0'"),
    "root by name": (with_key("redis", user="root"), "redis: user is 'root'"),
    "group root": (with_key("redis", user="999:0"), "redis: user is '999:0'"),
    "unconfined": (
        with_key("db", security_opt=["no-new-privileges:true", "seccomp:unconfined"]),
        "db: security_opt",
    ),
    "endless logs": (with_key("db", logging={"driver": "json-file"}), "db: logging has no end"),
    "latest": (with_key("db", image="${POSTGRES_IMAGE:-docker.io/postgres:latest}"), "db: image"),
    "no tag": (with_key("db", image="${POSTGRES_IMAGE:-docker.io/library/postgres}"), "db: image"),
    "no digest possible": (with_key("db", image="docker.io/library/postgres:17.7"), "db: image"),
    "a port": (with_key("db", ports=["5432:5432"]), "db: publishes a port"),
    "the way out": (with_key("redis", networks=["data", "outside"]), "redis: is on the network"),
    "host network": (with_key("trainer", network_mode="host"), "trainer: network_mode is 'host'"),
    "socket": (with_volume("redis", "/var/run/docker.sock:/x"), "redis: has the engine's socket"),
    "the machine": (with_volume("redis", "/var/run:/x"), "redis: sees /var/run"),
    "a secret": (with_environment("db", POSTGRES_PASSWORD="x"), "db: POSTGRES_PASSWORD may"),
    "in a URL": (with_environment("ingest", LABEL_STUDIO_URL="http://a:b@c"), "has a password"),
    "not dealt out": (
        with_environment("db", MORE_PASSWORD_FILE="/run/secrets/redis-password"),
        "db: reads the secret redis-password",
    ),
    "in the image": (with_key("watchdog", **{"x-secrets": {}}), "watchdog: reads the secret"),
    "no secrets mounted": (with_key("redis", volumes=[]), "but /run/secrets is not mounted"),
    "secrets to write": (
        with_key("redis", volumes=["/home/secrets/redis:/run/secrets"]),
        "redis: may write to its secrets",
    ),
    "unknown to docs": (with_service("newcomer", "redis"), "newcomer: docs/operate.md has no"),
    "no readme": (with_service("newcomer", "redis"), "newcomer: neither services/newcomer/README"),
    "down -v": (with_top("volumes", "db", {"external": False}), "volumes.db: expected external"),
    "shared": (with_top("volumes", "db", {"external": True, "name": "db"}), "volumes.db"),
    "unused": (
        with_top("volumes", "x", {"external": True, "name": "${STACK_NAME:-labloop}_x"}),
        "volumes.x: nobody uses it",
    ),
    "open network": (with_top("networks", "data", {}), "networks.data: expected internal: true"),
    "the machine's address": (
        with_top("networks", "data", {"internal": True}),
        "networks.data: the machine has an address there",
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_is_wrong_is_complained_about(
    change: Callable[[Document], None], expected: str, tmp_path: Path
) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    assert expected in "\n".join(found_in(document, tmp_path))


@pytest.mark.parametrize(
    "keys",
    [
        {"privileged": True},
        {"pid": "host"},
        {"ipc": "host"},
        {"devices": ["/dev/x"]},
        {"env_file": "x"},
    ],
    ids=str,
)
def test_what_opens_a_container_is_not_even_understood(
    keys: dict[str, object], tmp_path: Path
) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["services"]["redis"].update(keys)
    with pytest.raises(ComposeError, match=f"services.redis: {next(iter(keys))} is not understood"):
        found_in(document, tmp_path)


def test_a_profile_that_leaves_a_dependency_out_is_refused(tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["services"]["db"]["profiles"] = ["lab"]
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    stack: Stack = read_stack([path], GIVEN)
    with pytest.raises(UsageError, match="waits for db, which files-lite does not start"):
        stack.with_profiles({"files-lite"})
