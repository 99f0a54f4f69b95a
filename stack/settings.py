"""What the command line takes from the environment and from `.env`; nobody else reads them."""

import os
from collections.abc import Mapping
from pathlib import Path

from stack.errors import UsageError

HOME_VARIABLE = "LABLOOP_HOME"
DEFAULT_HOME = Path(".labloop-home")
DATA_VARIABLE = "LABLOOP_DATA"
# Where the install.sh of a bundle leaves a link to it (stack/engine/bundle.py).
BUNDLED_WHEELS = Path(__file__).resolve().parent.parent / ".bundle" / "wheels"
TRUE_WORDS = ("1", "true", "yes", "on")
DEFAULT_DATA = Path("../shared/data")


def home_folder(given: Path | None = None) -> Path:
    """The home to work on: as given, else LABLOOP_HOME, else ./.labloop-home; absolute."""
    folder = given or Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)
    return folder.expanduser().absolute()


def data_folder() -> Path:
    """Where openly licensed image sets lie: LABLOOP_DATA, else ../shared/data."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA).expanduser().absolute()


def inherited_environment() -> Mapping[str, str]:
    """The environment of this process; services get a few of its variables."""
    return dict(os.environ)


def setup_environment() -> Mapping[str, str]:
    """The environment of `make setup`: WHEELS and OFFLINE, as pip's and uv's own settings.

    WHEELS names a folder of packages; OFFLINE=1 says that no index is asked for any.
    """
    environment = dict(os.environ)
    wheels = environment.get("WHEELS", "")
    if environment.get("OFFLINE", "").lower() in TRUE_WORDS:
        environment["PIP_NO_INDEX"] = "1"
        wheels = wheels or (str(BUNDLED_WHEELS) if BUNDLED_WHEELS.is_dir() else "")
    if wheels:
        known = environment.get("PIP_FIND_LINKS", "")
        folder = str(Path(wheels).expanduser().absolute())
        environment["PIP_FIND_LINKS"] = f"{folder} {known}".strip()
    return environment


def read_env_file(path: Path) -> dict[str, str]:
    """The settings of a `.env` file: `KEY=value` lines, `#` comments, quotes around values.

    Raises:
        UsageError: the file cannot be read, or a line is none of these; all are listed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the settings in {path}: {error}") from error
    settings: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip().removeprefix("export ").strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.partition("=")
        if not equals or not key.strip().isidentifier():
            problems.append(f"line {number} is {line.strip()!r}, expected KEY=value")
        else:
            settings[key.strip()] = _unquoted(value.strip())
    if problems:
        raise UsageError(f"{path}: " + "; ".join(problems))
    return settings


def _unquoted(value: str) -> str:
    for quote in "\"'":
        if len(value) >= 2 and value[0] == quote and value.find(quote, 1) > 0:
            return value[1 : value.find(quote, 1)]
    return value.split(" #", maxsplit=1)[0].rstrip()
