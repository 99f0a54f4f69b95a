"""Every container is built by the same recipe; its Dockerfile says only what is its own."""

import re
from pathlib import Path

import pytest

from stack.compose import read_compose
from stack.environments import ROOT
from tests.test_shape import EVERY, STARTS, folder_of

SERVICES = {service.name: service for service in read_compose(ROOT / "compose.yaml")}
# What stands in every Dockerfile, to the letter.
COMMON = (
    "FROM scratch AS wheels",
    "COPY constraints.txt pyproject.toml /setup/",
    "COPY stack/__init__.py stack/pip_settings.py stack/image_setup.py /setup/stack/",
    "RUN --mount=type=cache,target=/root/.cache \\",
    "    --mount=type=bind,from=wheels,target=/wheels \\",
    "    --mount=type=secret,id=pip,target=/etc/pip.conf \\",
    "    --mount=type=secret,id=ca,target=/setup/ca.crt \\",
    "ARG LAB_UID=2000 LAB_GID=2000",
    "RUN install -d -m 2770 -o ${LAB_UID} -g ${LAB_GID} /state",
    "ENV PATH=/opt/labloop/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 \\",
    "USER ${LAB_UID}:${LAB_GID}",
    "STOPSIGNAL SIGTERM",
    'ENTRYPOINT ["/app/stack/runtime/entrypoint.sh"]',
)
# Addresses, and what people may set, are compose.yaml's business.
PATHS = re.compile(r"(NAS_ROOT|STATE_DIR|HEARTBEAT_FILE|_FILE|_DIR|_ROOT|_HOST|_ADDRESS)$")


def dockerfile(name: str) -> str:
    return (folder_of(name) / "Dockerfile").read_text(encoding="utf-8")


def lines_of(name: str) -> list[str]:
    return dockerfile(name).splitlines()


def environment_of(name: str) -> dict[str, str]:
    """The variables that an image sets for its service, as far as the service reads them."""
    words = re.findall(r"^ +([A-Z_]+)=(\S+)", dockerfile(name), re.MULTILINE)
    known = SERVICES[name].environment
    return {key: value for key, value in words if key in known}


@pytest.mark.parametrize("name", EVERY)
def test_the_recipe_is_the_same_everywhere(name: str) -> None:
    lines = lines_of(name)
    assert [line for line in COMMON if line not in lines] == []
    assert not lines[0].startswith("# syntax="), "it is fetched from a registry"


@pytest.mark.parametrize("name", EVERY)
def test_the_base_is_an_argument_with_a_pinned_default(name: str) -> None:
    argument = "DEEPO_IMAGE" if name == "trainer" else "BASE_IMAGE"
    default = re.search(rf"^ARG {argument}=(\S+)$", dockerfile(name), re.MULTILINE)
    assert default is not None
    assert re.fullmatch(r"[a-z/]+:[a-z0-9.-]*[0-9][a-z0-9.-]*", default[1]), default[1]
    assert f"FROM ${{{argument}}}" in lines_of(name)


@pytest.mark.parametrize("name", EVERY)
def test_a_container_has_the_packages_of_its_own_extra(name: str) -> None:
    assert re.search(rf"python3 -m stack\.image_setup {name}( |$)", dockerfile(name), re.MULTILINE)


@pytest.mark.parametrize("name", EVERY)
def test_a_container_starts_and_is_asked_as_its_readme_says(name: str) -> None:
    text, folder = dockerfile(name), folder_of(name)
    if not any(folder.glob("*.py")):
        return
    package = ".".join(folder.relative_to(ROOT).parts)
    start = STARTS.get(name, "").removesuffix(".py")
    module = f"{package}.{start}" if start else package
    assert f'CMD ["python", "-m", "{module}"]' in text.splitlines()
    assert f'    CMD ["python", "-m", "{package}.health"]' in text.splitlines()


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_knows_paths_in_its_container_and_nothing_else(name: str) -> None:
    environment = environment_of(name)
    assert not [key for key in environment if not PATHS.search(key)]
    for key, value in environment.items():
        if key.endswith("_FILE") and key != "HEARTBEAT_FILE":
            assert value.startswith("/run/secrets/"), key
    # Whatever the local runner fills in as a file or folder, an image fills in, too.
    files = {key for key in SERVICES[name].environment if key.endswith(("_FILE", "_ROOT", "_DIR"))}
    assert files <= environment.keys()


def test_nothing_gets_into_a_build_but_code_and_pins() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert kept == {
        "constraints.txt",
        "pyproject.toml",
        "imaging",
        "ml_backend",
        "services",
        "stack",
    }
    assert all((ROOT / Path(name)).exists() for name in kept)
