"""The documents lead somewhere: links, verbs and files they name exist."""

import argparse
import re
from pathlib import Path

import pytest

from stack.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
VERB = re.compile(r"(?:`|^|/)labloop ([a-z]+)", re.MULTILINE)
TARGET = re.compile(r"(?:`|^)make ([a-z][a-z-]+)", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in LINK.findall(text)]
    local = [link for link in links if link and "://" not in link and "mailto:" not in link]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_verbs_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    verbs = next(
        action.choices
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert not set(VERB.findall(text)) - set(verbs)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert not set(TARGET.findall(text)) - set(targets)


def test_every_page_of_docs_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    pages = set((ROOT / "docs").glob("*.md")) - {index}
    assert pages <= linked
