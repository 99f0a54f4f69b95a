"""What last came up healthy, kept whole: where an upgrade that fails goes back to.

    <home>/run/good/compose.yaml   every file and variable filled in, as Compose understood them
    <home>/run/good/stack.env      the variables
    <home>/run/good/engine.json    the record

Nothing secret is in them: services are told the names of files.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from imaging.publish import write_text
from stack.engine.lab import RECORD, VARIABLES, Lab, open_lab
from stack.errors import StackError
from stack.home import Home

RENDERED = "compose.yaml"


class NothingKnownGoodError(StackError):
    """There is nothing to go back to."""

    hint = "`labloop up` of the version that worked brings it back; no data was removed."


def good_folder(home: Home) -> Path:
    return home.run / "good"


def keep_good(lab: Lab) -> None:
    """Remember a stack that is healthy now."""
    folder = good_folder(lab.home)
    part = folder.with_name(".good.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_text(part / RENDERED, lab.compose.run("config"))
    for name in (VARIABLES, RECORD):
        shutil.copyfile(lab.home.run / name, part / name)
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def go_back(home: Home) -> Lab:
    """Make the known good stack the home's again; nothing is started yet.

    Raises:
        NothingKnownGoodError: none was ever healthy.
    """
    folder = good_folder(home)
    if not (folder / RENDERED).is_file():
        raise NothingKnownGoodError(f"{folder} holds no stack that was healthy")
    for name in (VARIABLES, RECORD):
        shutil.copyfile(folder / name, home.run / name)
    lab = open_lab(home)
    compose = replace(lab.compose, files=(folder / RENDERED,))
    return replace(lab, compose=compose)
