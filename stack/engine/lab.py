"""One lab's stack in Docker: its home, its settings, and the hand that calls Compose.

    <home>/run/engine.json   this home runs in Docker: project, override files, image tag
    <home>/run/stack.env     every variable that compose.yaml asks for, settings and derived ones

Both are written by `labloop up` and read by every other verb.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imaging.errors import RecordError
from imaging.publish import read_json, write_json, write_text
from stack.engine.compose_call import Compose
from stack.engine.config_files import config_folder
from stack.engine.settings import LabSettings
from stack.environments import ROOT
from stack.errors import StackError, UsageError
from stack.home import Home
from stack.settings import inherited_environment, read_env_file

COMPOSE_FILE = ROOT / "compose.yaml"
ENV_FILE = ROOT / ".env"
OVERRIDES = ROOT / "stack" / "overrides"
RECORD = "engine.json"
VARIABLES = "stack.env"
PLANNED = "stack.next.env"  # of a stack that was not started yet
# What `docker` itself needs of a person's environment; settings come from stack.env alone.
HANDED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TERM", "TMPDIR", "SSH_AUTH_SOCK")
HANDED_ON_PREFIXES = ("DOCKER_", "BUILDKIT_", "BUILDX_", "XDG_", "COMPOSE_PARALLEL", "SSL_CERT_")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


class NotInDockerError(UsageError):
    """This home has no stack in Docker."""

    def __init__(self, home: Home) -> None:
        super().__init__(
            f"{home.root} has no stack in Docker",
            hint="`labloop up` (or `make up`) makes one; --home names another folder.",
        )


@dataclass(frozen=True, slots=True)
class Lab:
    """A stack in Docker, as it was last asked for."""

    home: Home
    settings: LabSettings
    compose: Compose
    overrides: tuple[str, ...]  # names of files in stack/overrides/
    image_tag: str
    trains_on: str = ""  # the GPU or the CPU, and why, for people
    gpu_question: str = ""  # what that was decided from
    settings_file: Path = ENV_FILE  # the person's own

    def volume(self, name: str) -> str:
        """The volume's name in the engine."""
        return f"{self.settings.stack_name}_{name}"


def record_file(home: Home) -> Path:
    return home.run / RECORD


def is_in_docker(home: Home) -> bool:
    """Whether this home's stack is the engine's business."""
    return record_file(home).is_file()


def settings_file(home: Home, given: Path | None = None) -> Path:
    """Where a person's settings are: as given, else as the stack was last started, else `.env`."""
    if given is not None:
        return given.absolute()
    try:
        return Path(str(read_json(record_file(home))["settings_file"]))
    except (RecordError, KeyError):
        return ENV_FILE


def open_lab(home: Home) -> Lab:
    """The stack as `labloop up` last wrote it down.

    Raises:
        NotInDockerError: it never did.
        StackError: what it wrote is damaged.
    """
    if not is_in_docker(home):
        raise NotInDockerError(home)
    try:
        record = read_json(record_file(home))
        overrides = tuple(str(name) for name in record["overrides"])
        variables = read_env_file(home.run / VARIABLES)
        lab = make_lab(home, LabSettings.from_env(variables), overrides, str(record["image_tag"]))
        return replace(
            lab,
            trains_on=str(record.get("trains_on", "")),
            gpu_question=str(record.get("gpu_question", "")),
            settings_file=settings_file(home),
        )
    except (RecordError, KeyError, TypeError) as error:
        raise StackError(
            f"{record_file(home)} cannot be read: {error}", hint="`labloop up` writes it anew."
        ) from error


def make_lab(
    home: Home,
    settings: LabSettings,
    overrides: Sequence[str],
    image_tag: str,
    variables_file: str = VARIABLES,
) -> Lab:
    """Put the parts together; nothing is written."""
    compose = Compose(
        project=settings.stack_name,
        folder=ROOT,
        files=(COMPOSE_FILE, *(OVERRIDES / f"{name}.yaml" for name in overrides)),
        env_file=home.run / variables_file,
        profile=settings.profile,
        environment=docker_environment(inherited_environment()),
    )
    return Lab(home, settings, compose, tuple(overrides), image_tag)


def save_lab(planned: Lab, variables: Mapping[str, str]) -> Lab:
    """Write down what to run, for every later call; the stack as it is from now on."""
    lab = replace(planned, compose=replace(planned.compose, env_file=planned.home.run / VARIABLES))
    lab.home.run.mkdir(parents=True, exist_ok=True)
    write_text(lab.compose.env_file, env_text(variables))
    (lab.home.run / PLANNED).unlink(missing_ok=True)
    record = {
        "format": 1,
        "project": lab.settings.stack_name,
        "overrides": list(lab.overrides),
        "image_tag": lab.image_tag,
        "trains_on": lab.trains_on,
        "gpu_question": lab.gpu_question,
        "settings_file": str(lab.settings_file),
    }
    write_json(record_file(lab.home), record)
    return lab


def env_text(variables: Mapping[str, str]) -> str:
    """A file of variables as Compose reads it: nothing in a value is taken for more than text.

    Raises:
        UsageError: a value holds a quote or a line break.
    """
    wrong = [name for name, value in variables.items() if "'" in value or "\n" in value]
    if wrong:
        raise UsageError(f"{', '.join(wrong)} hold a ' or a line break, expected neither")
    lines = [f"{name}='{value}'" for name, value in sorted(variables.items())]
    return "\n".join(["# Written by `labloop up`; settings belong in .env.", *lines, ""])


def docker_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What the program `docker` gets of a person's environment."""
    return {
        name: value
        for name, value in inherited.items()
        if name in HANDED_ON or name.startswith(HANDED_ON_PREFIXES) or name.lower() in PROXIES
    }


def derived_variables(home: Home, settings: LabSettings, image_tag: str) -> dict[str, str]:
    """What compose.yaml asks for and nobody has to set."""
    names = [settings.lab_host, settings.lab_domain and f"files.{settings.lab_domain}"]
    derived = {
        "STACK_NAME": settings.stack_name,
        "COMPOSE_PROFILES": settings.profile,
        "LAB_HOST": settings.lab_host,
        "SECRETS_DIR": str(home.secrets),
        "CONFIG_DIR": str(config_folder(home, ROOT)),
        "IMAGE_TAG": image_tag,
        "REVISION": revision(),
        "LABEL_STUDIO_ORIGINS": ",".join(settings.origins),
        "NEXTCLOUD_DOMAINS": " ".join(dict.fromkeys(filter(None, names))),
        # For the local runner's part of compose.yaml, which Compose fills in, too.
        **dict.fromkeys(("NAS_ROOT", "STATE_DIR", "HOST"), "-"),
        **dict.fromkeys(("LABEL_STUDIO_PORT", "ML_BACKEND_PORT", "WATCHDOG_PORT"), "0"),
        "TENSORBOARD_PORT": "0",
    }
    return {**settings.values, **derived}


def revision() -> str:
    """The commit of the checkout; empty where there is none."""
    git = shutil.which("git")
    if git is None:
        return ""
    answer = subprocess.run(
        [git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""
