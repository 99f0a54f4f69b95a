"""The Python environments: where they lie, what belongs in them, whether they are up to date.

Ours is `.venv`. Label Studio pins some ninety packages, so it lives apart in
`.envs/label-studio`; label-studio-ml, which only the adapter's test needs, in another.
Standard library only: read before anything is installed.
"""

import hashlib
import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from stack.errors import NotInstalledError, UsageError

ROOT = Path(__file__).resolve().parent.parent  # of the repository
OURS = "labloop"
CONTROL = "control"
CONSTRAINTS = Path("constraints.txt")
STAMP = ".labloop-stamp"  # written last: says from what the environment was made


@dataclass(frozen=True, slots=True)
class Environment:
    """One Python environment of the repository; paths are relative to its root."""

    name: str
    folder: Path
    requirements: tuple[str, ...]  # as on a command line; `extra:NAME` is an extra of ours
    without_dependencies: tuple[str, ...] = ()  # installed first, with nothing they ask for
    usual: str = "1-5 minutes"  # how long it takes, for people
    needs_torch: bool = False
    finish: tuple[str, ...] = ()  # run with its Python when all is installed


ENVIRONMENTS: Mapping[str, Environment] = MappingProxyType(
    {
        environment.name: environment
        for environment in (
            Environment(
                OURS,
                Path(".venv"),
                ("-e", ".[control,ingest,watchdog,trainer,ml-backend,tensorboard,demo,bench,dev]"),
                needs_torch=True,
            ),
            # All that `labloop` itself needs where the services run in Docker: no torch, 15 s.
            Environment(CONTROL, Path(".envs/control"), ("-e", ".[control]"), usual="15 s"),
            Environment(
                "label-studio",
                Path(".envs/label-studio"),
                ("extra:label-studio",),
                # A minute of migrations, while PyTorch is still being fetched for ours.
                finish=("services/label_studio/start.py", "--make-template"),
            ),
            Environment(
                "label-studio-ml",
                Path(".envs/label-studio-ml"),
                # The adapter lives in this environment: our package, as serving needs it.
                (
                    *("-e", ".[ml-backend]"),
                    *("Flask", "redis", "attrs", "rq", "colorama", "label-studio-tools"),
                    "requests",
                ),
                # It pins Flask 1.1, which no longer runs; with today's it does.
                without_dependencies=("label-studio-ml",),
            ),
        )
    }
)
USUAL = (OURS, "label-studio")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checkout of the repository and the environments in it."""

    root: Path = ROOT
    python: tuple[int, ...] = field(default_factory=lambda: tuple(sys.version_info[:3]))

    def environment(self, name: str) -> Environment:
        if name not in ENVIRONMENTS:
            names = ", ".join(ENVIRONMENTS)
            raise UsageError(f"environment is {name!r}, expected one of {names}")
        return ENVIRONMENTS[name]

    def folder(self, environment: Environment) -> Path:
        return self.root / environment.folder

    def interpreter(self, environment: Environment) -> Path:
        return self.folder(environment) / "bin" / "python"

    def requirements(self, environment: Environment) -> list[str]:
        """The requirements with our extras spelt out, as pyproject.toml lists them."""
        project = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        extras: Mapping[str, list[str]] = project["project"]["optional-dependencies"]
        wanted: list[str] = []
        for requirement in environment.requirements:
            name = requirement.removeprefix("extra:")
            wanted += [requirement] if name == requirement else extras[name]
        return wanted

    def stamp(self, environment: Environment) -> str:
        """What the environment is made from; another value means that it must be made anew."""
        digest = hashlib.sha256(repr((environment, self.python, platform.machine())).encode())
        for path in (CONSTRAINTS, Path("pyproject.toml")):
            digest.update((self.root / path).read_bytes())
        return digest.hexdigest()

    def is_ready(self, environment: Environment) -> bool:
        """Whether the environment is complete and made from what the checkout says now."""
        try:
            found = (self.folder(environment) / STAMP).read_text(encoding="utf-8").strip()
        except OSError:
            return False
        return found == self.stamp(environment) and self.interpreter(environment).exists()


def programs_of(name: str) -> Path:
    """The folder of an environment's programs.

    Raises:
        UsageError: there is no environment of that name.
        NotInstalledError: it has not been made.
    """
    if name == OURS:
        return Path(sys.executable).parent
    checkout = Checkout()
    interpreter = checkout.interpreter(checkout.environment(name))
    if not interpreter.exists():
        raise NotInstalledError(f"the environment {name} is not there: no {interpreter}")
    return interpreter.parent
